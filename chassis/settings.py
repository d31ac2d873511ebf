"""Settings: MOBOT_* variables configure every process; each is read by one field, and none is silently ignored."""

import difflib
import functools
import importlib
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from inspect import isclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import pydantic
from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chassis.errors import AppError, FailedPrecondition

PREFIX = "MOBOT_"
ENTRY_POINT_GROUP = "mobot.settings"
_TOKEN_BYTES = 32

# Kubernetes gives every pod variables about the services beside it, and a service may well be called "mobot-...".
_KUBERNETES_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

T = TypeVar("T", bound="MobotSettings")


class SettingsError(Exception):
    """The environment cannot be used as it is. `problems` holds one readable line for each thing to mend."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MobotSettings(BaseSettings):
    """The base of all settings: immutable, from the environment, one variable `<env_prefix><FIELD>` a field.

    Lists are written with commas ("a,b"), mappings as "name=value,name=value"; both may be JSON too. An empty variable
    counts as absent. A subclass sets its own prefix: `model_config = SettingsConfigDict(env_prefix="MOBOT_SESSION_")`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)


class ChassisSettings(MobotSettings):
    """What every mobot process needs to know."""

    data_dir: Path = Field(Path("~/.mobot"), description="Directory of all state: databases, sockets, the token.")
    token: SecretStr | None = Field(
        None,
        description="Root secret that signs tokens. Default: the data directory's file `token`, made on first use.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log lines to write."
    )
    log_json: bool = Field(True, description="Log lines as JSON objects rather than as text.")
    trace_exporter: Literal["none", "otlp", "console"] = Field(
        "none",
        description="Where traces go; `otlp` needs `mobot[otlp]` and follows the OTEL_EXPORTER_OTLP_* variables.",
    )
    trace_sample: float = Field(0.01, ge=0, le=1, description="Share of new traces that is recorded, from 0 to 1.")
    grace_s: float = Field(
        5.0, ge=0, le=300, description="Seconds that calls in flight may take when the process drains."
    )
    migrate_on_start: bool = Field(
        True, description="Bring the database to the newest schema at start. Off: refuse to start on an older schema."
    )

    grpc_front: Literal["auto", "native", "aio"] = Field(
        "aio",
        description="Who serves gRPC on TCP without TLS: `aio` (grpcio), `native` (needs `mobot[fast]`; see ADR 14 for "
        "its limit), `auto`: native where it is installed.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        description="Bearer token that every /metrics asks for. Default: open to whoever reaches it.",
    )

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class ListenSettings(MobotSettings):
    """What the settings of every service have: where it listens."""

    host: str
    port: int
    socket: Path | None
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port of /metrics and /healthz over HTTP; 0 takes any free one. Default: none.",
    )


class TargetSettings(MobotSettings):
    """Where the four services are dialled: `host:port`, `dns:///name:port`, `unix:/path`, or `local:` in the core."""

    registry_target: str = Field("127.0.0.1:50051", description="gRPC target of the registry service.")
    session_target: str = Field("127.0.0.1:50052", description="gRPC target of the session service.")
    memory_target: str = Field("127.0.0.1:50053", description="gRPC target of the memory service.")
    router_target: str = Field("127.0.0.1:50054", description="gRPC target of the router service.")

    def targets(self) -> dict[str, str]:
        """Targets by service name, as `chassis.channel.Dialer` takes them."""
        return {
            "registry": self.registry_target,
            "session": self.session_target,
            "memory": self.memory_target,
            "router": self.router_target,
        }


def load(cls: type[T]) -> T:
    """The settings of class `cls` from the environment.

    Raises:
        SettingsError: a value breaks its rule, or a MOBOT_* variable is one that no mobot process reads.
    """
    problems = list(_unknown_variables(cls))
    try:
        settings = cls()
    except pydantic.ValidationError as error:
        raise SettingsError(*_readable(cls, error), *problems) from None
    if problems:
        raise SettingsError(*problems)
    return settings


def root_token(settings: ChassisSettings, *, create: bool = True) -> str:
    """The root secret: the setting if given, else the data directory's token file, which is made (0600) on first use.

    Without `create` it must be there: who only calls services leaves nothing behind in a directory that was mistyped.
    Safe when several processes start at once: the file appears whole, and all of them read the same one.

    Raises:
        SettingsError: the data directory or the token file cannot be read or written, or the file is missing or empty.
    """
    if settings.token is not None:
        return settings.token.get_secret_value()
    path = settings.data_dir / "token"
    try:
        if not path.exists():
            if not create:
                raise SettingsError(
                    f"mobot was never started on {settings.data_dir}: there is no token. `mobot up` makes it; "
                    f"{PREFIX}DATA_DIR says where another one keeps its data"
                )
            _create_token(path)
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(
            f"{PREFIX}DATA_DIR={settings.data_dir}: cannot use the token file {path}: {reason}; "
            f"choose a directory that this user may write, or set {PREFIX}TOKEN"
        ) from error
    if not token:
        raise SettingsError(f"{path} is empty; delete it to have a new token made, or set {PREFIX}TOKEN")
    return token


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Runs a process's `main` and exits with its code: 2 when a person must change something first (a wrong
    setting, a taken port, a schema of another version: starting again would not help), 1 when it failed otherwise."""
    try:
        code = main()
    except SettingsError as error:
        sys.stderr.write("".join(f"mobot: {problem}\n" for problem in error.problems))
        sys.exit(2)
    except AppError as error:
        sys.stderr.write(f"mobot: {error.message}\n")
        sys.exit(2 if isinstance(error, FailedPrecondition) else 1)
    sys.exit(code or 0)


def write_reference() -> str:
    """Markdown tables of every variable, one for each settings class that has some of its own: docs/settings.md."""
    sections: list[str] = []
    for cls in _all_classes():
        own = {_variable(cls, name, field): field for name, field in cls.model_fields.items() if _is_own(cls, name)}
        if own:
            sections.append("\n".join(_section(cls, own)))
    return "\n\n".join(sections) + "\n"


def _section(cls: type[MobotSettings], variables: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield f"## {cls.__name__.removesuffix('Settings')}"
    yield ""
    if cls.__doc__:
        yield from (cls.__doc__.strip().splitlines()[0], "")
    yield from ("| variable | default | value | meaning |", "| --- | --- | --- | --- |")
    for variable, field in sorted(variables.items()):
        cells = (f"`{variable}`", _default_text(field), f"`{_type_text(field)}`", field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _is_own(cls: type[MobotSettings], name: str) -> bool:
    """Whether the variable is not one that another settings class, which `cls` stands on, reads and tells already."""
    variable = _variable(cls, name, cls.model_fields[name])
    return not any(variable in _variables(base) for base in cls.__bases__ if issubclass(base, MobotSettings))


class _Environment(PydanticBaseSettingsSource):
    """Reads one variable for each field; values stay text, except that lists and mappings are taken apart."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        key = field.validation_alias if isinstance(field.validation_alias, str) else field_name
        return os.environ.get(_variable(self.settings_cls, field_name, field)) or None, key, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            raw, key, _ = self.get_field_value(field, name)
            if raw is not None:
                values[key] = _take_apart(raw, field)
        return values


def _take_apart(raw: str, field: FieldInfo) -> object:
    options = (field.annotation, *get_args(field.annotation))
    classes: list[type] = [kind for kind in (get_origin(option) or option for option in options) if isclass(kind)]
    text = raw.strip()
    if any(issubclass(kind, Mapping) for kind in classes):
        if not text.startswith("{"):
            pairs = (item.partition("=") for item in text.split(",") if item.strip())
            return {name.strip(): value.strip() for name, _, value in pairs}
    elif any(issubclass(kind, (list, tuple, set, frozenset)) for kind in classes):
        if not text.startswith("["):
            return [item.strip() for item in text.split(",") if item.strip()]
    else:
        return raw
    try:
        return json.loads(text)
    except ValueError:
        return raw


def _variable(cls: type[BaseSettings], name: str, field: FieldInfo) -> str:
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{cls.model_config.get('env_prefix', PREFIX)}{name}".upper()


def _variables(cls: type[BaseSettings]) -> dict[str, FieldInfo]:
    return {_variable(cls, name, field): field for name, field in cls.model_fields.items()}


def _unknown_variables(cls: type[MobotSettings]) -> Iterator[str]:
    given = {name for name in os.environ if name.upper().startswith(PREFIX)}
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        given = {name for name in given if not _KUBERNETES_SERVICE_LINK.fullmatch(name)}
    given -= _variables(cls).keys() | _variables(ChassisSettings).keys()
    if not given:
        return  # the other classes need not be looked for, which start-up notices
    known = {variable for other in (cls, *_all_classes()) for variable in _variables(other)}
    for name in sorted(given - known):
        # The prefix is left out of the comparison: what all names share says nothing about which one was meant.
        nearest = difflib.get_close_matches(
            name.upper().removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known], n=1
        )
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        yield f"{name}: no mobot process reads this variable{hint}"


@functools.cache  # what is installed stays as it is while a process runs, and to look costs as much as an import
def _all_classes() -> tuple[type[MobotSettings], ...]:
    """The announced settings classes of all processes, each once; a process that is not installed is left out."""
    classes: dict[str, type[MobotSettings]] = {"chassis.settings:ChassisSettings": ChassisSettings}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        if entry.value in classes:
            continue
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if error.name is None or not (entry.module == error.name or entry.module.startswith(error.name + ".")):
                raise
            continue
        classes[entry.value] = getattr(module, entry.attr)
    return tuple(classes.values())


def _readable(cls: type[MobotSettings], error: pydantic.ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        field = cls.model_fields.get(name)
        variable = _variable(cls, name, field) if field else name
        rule = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        secret = field is not None and "Secret" in str(field.annotation)
        given = "" if secret or detail["type"] == "missing" else f"={os.environ.get(variable, detail['input'])}"
        yield f"{variable}{given}: {rule}" if variable else rule


def _create_token(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"token.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears with its content, unlike a created file, and fails when another process was first.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default is PydanticUndefined or default in ((), [], {}, ""):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, (list, tuple)):
        return f"`{','.join(map(str, default))}`"
    return f"`{default}`"


def _type_text(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+", "", text).replace("SecretStr", "secret").replace(" | None", "")
    literal = re.fullmatch(r"Literal\[(.*)\]", text)
    if literal:
        text = literal[1].replace("'", "").replace(", ", " | ")
    bounds = [
        f"{symbol} {getattr(rule, attribute)}"
        for rule in field.metadata
        for attribute, symbol in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(rule, attribute)
    ]
    return ", ".join([text, *bounds])
