"""What the commands need to find mobot."""

from chassis.settings import ChassisSettings, TargetSettings
from mobot_cli.layout import Layout


class CliSettings(ChassisSettings, TargetSettings):
    """MOBOT_DATA_DIR, MOBOT_TOKEN and the MOBOT_*_TARGET variables; the command line has no variables of its own."""

    def targets(self) -> dict[str, str]:
        """Targets by service name: those that are set, else the sockets of the data directory's own mobot."""
        layout = Layout(self.data_dir)
        return {
            service: target if f"{service}_target" in self.model_fields_set else layout.target(service)
            for service, target in super().targets().items()
        }
