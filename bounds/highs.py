"""HiGHS without the lines that version 1.16 prints while it is constructed, before any option."""

from __future__ import annotations

import highspy


class QuietHighs(highspy.Highs):
    """Its output is off.

    >>> QuietHighs().getOptionValue("output_flag")[1]
    False
    """

    def enableCallbacks(self) -> None:  # its constructor calls this, which prints
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()
