"""How much memory and how many files a process takes while something happens."""

import threading

import psutil


class Watch(threading.Thread):
    """Looks at what a process itself has made, pages of files aside."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._is_over = threading.Event()
        self.most_bytes = 0

    def run(self) -> None:
        while not self._is_over.wait(0.05):
            self.most_bytes = max(self.most_bytes, self.now_bytes())

    def now_bytes(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - memory.shared)

    def files(self) -> int:
        """Open files, sockets among them."""
        return self._process.num_fds()

    def stop(self) -> int:
        self._is_over.set()
        self.join()
        return self.most_bytes
