"""The tests; `networks.py` draws what most of them run on."""
