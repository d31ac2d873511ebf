"""A program in a terminal of its own: keys go in, the screen is read as text. Needs tmux."""

import shlex
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import wait_for

COLUMNS, LINES = 110, 40


@dataclass(frozen=True)
class Terminal:
    """One tmux server with one pane; `server` is its socket."""

    server: Path

    def type(self, text: str) -> None:
        """Types text as it is, without Enter."""
        self._tmux("send-keys", "-t", "screen", "-l", text)

    def press(self, *keys: str) -> None:
        """Presses keys by their tmux names: Enter, Escape, C-c."""
        self._tmux("send-keys", "-t", "screen", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "screen")

    def scrollback(self) -> str:
        """Everything that was ever shown, oldest first."""
        return self._tmux("capture-pane", "-p", "-S", "-", "-t", "screen")

    def shows(self, *words: str, timeout_s: float = 40) -> str:
        """Waits until all of these stand on the screen; returns the screen."""
        return self.until(lambda screen: all(each in screen for each in words), f"screen with {words}", timeout_s)

    def until(self, right: Callable[[str], bool], what: str, timeout_s: float = 40) -> str:
        def find() -> str | None:
            screen = self.screen()
            return screen if right(screen) else None

        try:
            return wait_for(find, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows:\n{self.screen()}") from None

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.server), *arguments], check=True, capture_output=True, text=True, timeout=40
        )
        return done.stdout


@contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Iterator[Terminal]:
    """Runs a command in a terminal until the end of the block."""
    assert shutil.which("tmux"), "this test needs tmux; on Debian: apt-get install tmux"
    opened = Terminal(directory / f"tmux-{uuid.uuid4().hex[:8]}")
    start = ["tmux", "-S", str(opened.server), "-f", "/dev/null", "new-session", "-d", "-s", "screen"]
    # The pane stays when the program ends, so that its last words can be read.
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    plain = {**environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    stay = [";", "set-option", "-g", "remain-on-exit", "on"]
    subprocess.run([*start, *size, shlex.join(command), *stay], env=plain, check=True, timeout=40)
    try:
        yield opened
    finally:
        subprocess.run(["tmux", "-S", str(opened.server), "kill-server"], check=False, timeout=40)
