"""Starts one command and says when it began, when it ended, how, and what memory it took at most.

`python -I -S launcher.py DESCRIPTOR COMMAND…`: a line of JSON is written to that open file. A process of its own, and
a small one, because Linux counts as a command's peak also what the process that started it had resident.
"""

import os
import sys
import time

report = int(sys.argv[1])
os.set_inheritable(report, False)
started = time.monotonic()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(process, 0)
ended = time.monotonic()
line = f'{{"started": {started}, "ended": {ended}, "status": {os.waitstatus_to_exitcode(status)}, '
os.write(report, f'{line}"peak_kib": {used.ru_maxrss}}}\n'.encode())
