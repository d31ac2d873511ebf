"""AutoGen's gRPC runtime host: `autogen_host.py ADDRESS` prints READY when it serves. It keeps nothing on disk."""

import asyncio
import sys

from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost


async def main(address: str) -> None:
    host = GrpcWorkerAgentRuntimeHost(address=address)
    host.start()
    print("READY", flush=True)
    await host.stop_when_signal()


asyncio.run(main(sys.argv[1]))
