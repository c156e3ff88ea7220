"""Ctrl-C, as a wish to end early with all checks."""

import signal
import time


class Interrupt:
    """From its making on SIGINT is only noted. A signal handler must not do more: to set an Event in it would wait for
    ever if the code that it interrupted holds the event's lock.
    """

    def __init__(self):
        self.came = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, *_):
        self.came = True

    def wait(self, seconds):
        """Waits so long, or until it comes, and says whether it has come."""
        until = time.monotonic() + seconds
        while not self.came and (left := until - time.monotonic()) > 0:
            time.sleep(min(0.1, left))
        return self.came
