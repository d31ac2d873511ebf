"""The command line's own settings: none so far. It reads the data directory and the targets like everybody else."""

from chassis.settings import ChassisSettings, TargetSettings


class CliSettings(ChassisSettings, TargetSettings):
    """Where the commands find mobot: MOBOT_DATA_DIR, MOBOT_TOKEN and the MOBOT_*_TARGET variables."""
