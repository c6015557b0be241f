"""The parts of the speed benchmark."""
