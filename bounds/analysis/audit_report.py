"""How an audit is shown: a table, what is refuted, a sentence, and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bounds.analysis.audit import Audit
from bounds.analysis.judge import BY, JUDGEMENTS, ROUNDING, AuditedEnd, Judgement

#: Refuted claims that are shown one by one.
SHOWN = 10
SIDES = ("lower", "upper")


@dataclass(frozen=True, eq=False)
class _End:
    """The claims of one name and side. sign: 1 where they are about least values, −1 else."""

    name: str
    side: str
    sign: float
    end: AuditedEnd

    @property
    def stated(self) -> Tensor:
        """Whether a claim says something; (batch, values)."""
        return self.sign * self.end.claimed > -math.inf

    def says_something(self) -> bool:
        return bool(self.stated.any())

    def looser(self, than: Tensor) -> Tensor:
        """By how much the claims that say something are looser than other bounds; those that are
        tighter, by a negative number."""
        difference = self.sign * (than - self.end.claimed)
        return difference[self.stated & difference.isfinite()]

    def chosen(self, judgement: Judgement) -> Tensor:
        """Whether a claim says something and was judged so; (batch, values)."""
        return (self.end.judgement == JUDGEMENTS.index(judgement)) & self.stated

    def count(self, judgement: Judgement) -> int:
        return int(self.chosen(judgement).sum())

    def by_rounding(self) -> int:
        """How many are open by no more than rounding: as tight as can be."""
        beyond = (self.sign * (self.end.claimed - self.end.ours))[self.chosen("open")]
        size = self.end.claimed[self.chosen("open")].abs().clamp(min=1.0)
        return int((beyond <= ROUNDING * size).sum())

    def beyond(self) -> Tensor:
        """By how much points go beyond the claims that are refuted."""
        return (self.sign * (self.end.claimed - self.end.attained))[self.chosen("refuted")]


def print_audit(audit: Audit, console: Console) -> None:
    """A line for each name and side: what became of the claims, and how loose they are; the first
    that are refuted, and the verdict."""
    judged = _table("about", "end", "claims", *BY[1:], "refuted", "open", "by rounding", "beyond")
    loose = _table("about", "end", "looser than LP", "at most", "than ours", "at most")
    for each in filter(_End.says_something, _ends(audit)):
        proved = each.end.by[each.chosen("proved")]
        beyond, refuted, open_ = each.beyond(), each.count("refuted"), each.count("open")
        judged.add_row(
            each.name,
            each.side,
            str(int(each.stated.sum())),
            *(str(int((proved == position).sum())) for position in range(1, len(BY))),
            f"[red]{refuted}[/]" if refuted else "0",
            f"[yellow]{open_}[/]" if open_ else "0",
            str(each.by_rounding()),
            f"{float(beyond.max()):.1e}" if len(beyond) else "",
        )
        lp, ours = (each.looser(than) for than in (each.end.lp, each.end.ours))
        loose.add_row(each.name, each.side, *_spread(lp), *_spread(ours))
    console.print(judged)
    console.print(loose)
    refuted_ = [record for record in _records(audit) if record["judgement"] == "refuted"]
    for record in refuted_[:SHOWN]:
        console.print(
            f"refuted: {record['about']}, input {record['input']}, value {record['value']}: "
            f"{record['end']} end claimed as {record['claimed']}, and a point attains "
            f"{record['attained']}.",
            style="red",
            soft_wrap=True,
            markup=False,
        )
    if len(refuted_) > SHOWN:
        console.print(f"and {len(refuted_) - SHOWN} more: --json has all of them.")
    console.print(verdict(audit), style="bold", soft_wrap=True)


def verdict(audit: Audit) -> str:
    """One sentence."""
    ends = list(_ends(audit))
    total, rounding = sum(int(e.stated.sum()) for e in ends), sum(e.by_rounding() for e in ends)
    count = {name: sum(end.count(name) for end in ends) for name in JUDGEMENTS}
    return (
        f"{count['proved']} of {total} claims are proved, {count['refuted']} are refuted, "
        f"{count['open']} are open, {rounding} of these by rounding alone."
    )


def audit_json(audit: Audit) -> dict[str, Any]:
    """claims: one record each, but for those that claim nothing; what is not a finite number is
    None. x: a point where a claim is refuted."""
    return {
        "sound": audit.sound,
        **{name: sum(end.count(name) for end in _ends(audit)) for name in JUDGEMENTS},
        "claims": list(_records(audit)),
    }


def _ends(audit: Audit) -> Iterator[_End]:
    for name, both in audit.ends.items():
        for side, sign, end in zip(SIDES, (1.0, -1.0), both, strict=True):
            yield _End(name, side, sign, end)


def _records(audit: Audit) -> Iterator[dict[str, Any]]:
    for each in _ends(audit):
        end = each.end
        for i, value in each.stated.nonzero().tolist():
            numbers = (end.claimed, end.ours, end.lp, end.attained)
            claimed, ours, lp, attained = (float(number[i, value]) for number in numbers)
            judgement, point = JUDGEMENTS[int(end.judgement[i, value])], end.points.get((i, value))
            yield {
                "about": each.name,
                "end": each.side,
                "input": i,
                "value": value,
                "claimed": _finite(claimed),
                "judgement": judgement,
                "by": BY[int(end.by[i, value])] if judgement == "proved" else None,
                "ours": _finite(ours),
                "lp": _finite(lp),
                "looser_than_lp": _finite(each.sign * (lp - claimed)),
                "looser_than_ours": _finite(each.sign * (ours - claimed)),
                "attained": _finite(attained),
                "x": None if point is None else point.tolist(),
            }


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name in ("about", "end") else "right")
    return table


def _spread(distances: Tensor) -> tuple[str, str]:
    """The median and the largest."""
    if len(distances) == 0:
        return "", ""
    return f"{float(distances.median()):+.1e}", f"{float(distances.max()):+.1e}"


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
