"""Work on many tasks: in this process, in several, or on a cluster of Ray, from one queue."""
