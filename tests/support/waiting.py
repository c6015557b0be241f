"""Says that it has begun, and does not end."""

import time

print("begun", flush=True)
time.sleep(1000)
