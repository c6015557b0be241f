"""Tests of the whole: what it promises, its command line, its documents."""
