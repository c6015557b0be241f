"""Says that it has begun and, if nothing ends it before, that it is still there."""

import time

print("begun", flush=True)
time.sleep(60)
print("still there", flush=True)
