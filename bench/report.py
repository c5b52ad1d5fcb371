"""Tables in Markdown, and whether keepwell meets its bars."""

import re
import statistics

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"

# metric: (title, unit, digits, whether less is better)
COLUMNS = {
    "restart": ("restart, 1 service", "ms", True),
    "restart-many": ("restart, one of {n}", "ms", True),
    "memory": ("memory, {n}", "MB", True),
    "wakeups": ("wake-ups idle, {n}", "/s", True),
    "start": ("start of {n}", "ms", True),
    "stop": ("stop of {n}", "ms", True),
    "gone": ("and all removed", "ms", True),
    "log": ("log capture", "MB/s", False),
    "log-cpu": ("CPU for it", "s/GiB", True),
    "log-lines": ("a write a line", "MB/s", False),
    "log-lines-cpu": ("CPU for it", "s/GiB", True),
}

# metric: (how it is compared, bar); "loop" is the ratio to the C loop, "dinit" that to dinit, "value" the figure itself
BARS = [
    ("restart", "loop", 2.6),
    ("restart", "dinit", 1.5),
    ("restart-many", "loop", 2.1),
    ("memory", "value", 12.0),
    ("wakeups", "value", 0.0),
    ("start", "loop", 1.75),
    ("stop", "loop", 2.0),
    ("gone", "loop", 4.0),
    ("log", "loop", 0.95),
    ("log-cpu", "loop", 1.15),
]


def figure(value):
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def best(rounds, metric):
    """The best of the rounds' medians: what disturbs a round only ever makes it worse."""
    values = [found[metric] for found in rounds if isinstance(found.get(metric), (int, float))]
    if not values:
        return None
    if metric in ("memory", "wakeups"):
        return statistics.median(values)
    return min(values) if COLUMNS[metric][2] else max(values)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def results(result):
    """Everyone's figures, a row a guardian."""
    names = [m for m in COLUMNS if any(best(rounds, m) is not None for rounds in result["rounds"].values())]
    n = f"{result['services']:,}"
    head = ["", *(f"{COLUMNS[m][0].format(n=n)}, {COLUMNS[m][1]}" for m in names)]
    rows = []
    for guardian, rounds in result["rounds"].items():
        rows.append([guardian, *(figure(best(rounds, m)) for m in names)])
    return table(head, rows)


def bars(result):
    """keepwell against what it promises; the lines, and how many bars are missed."""
    rounds, rows, missed = result["rounds"], [], 0
    n = f"{result['services']:,}"
    for metric, against, bar in BARS:
        own = best(rounds.get("keepwell", []), metric)
        other = {"loop": "C loop", "dinit": "dinit"}.get(against)
        base = best(rounds.get(other, []), metric) if other else None
        if own is None or (other and not base):
            continue
        title, unit, less = COLUMNS[metric]
        value = own / base if other else own
        met = value <= bar if less else value >= bar
        missed += not met
        sign = "≤" if less else "≥"
        rows.append([
            title.format(n=n), f"{figure(own)} {unit}", f"{figure(base)} {unit} ({other})" if other else "–",
            f"{value:.2f} ×" if other else f"{figure(value)} {unit}",
            f"{sign} {bar:g} ×" if other else f"{sign} {bar:g} {unit}", "met" if met else "**not met**",
        ])
    return table(["", "keepwell", "against", "comes to", "bar", ""], rows) if rows else "", missed


def notes(result):
    lines = []
    for guardian, about in result["about"].items():
        version = f" {about['version']}" if about["version"] else ""
        checks = sorted({found["log-check"] for found in result["rounds"][guardian] if found.get("log-check")})
        lines.append(f"- {guardian}{version}: {about['note']}" + (f"; **log: {'; '.join(checks)}**" if checks else ""))
    lines += [f"- not measured: {line}" for line in result["skipped"]]
    lines += [f"- failed: {line}" for line in result["failed"]]
    return "\n".join(lines)


def page(result):
    """The generated part of docs/performance.md."""
    verdict, _ = bars(result)
    machine = result["machine"]
    return "\n\n".join(
        part
        for part in (
            f"`{result['command']}` on {machine['cpus']} processors ({machine['model']}), Linux {machine['kernel']}, "
            f"files on {machine['filesystem']}; {result['repeats']} rounds of keepwell and the C loop, interleaved, best of the rounds' medians "
            f"(memory and wake-ups: their median); one round of the others. Other work kept the machine up to {result['busy']:.0f} % busy before a run.",
            verdict,
            results(result),
            notes(result),
        )
        if part
    )


def write_into(path, text):
    """Replaces what stands between the two marks of a page."""
    old = path.read_text()
    found = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(found.findall(old)) != 1:
        raise SystemExit(f"{path} does not hold `{BEGIN}` and `{END}` once each")
    path.write_text(found.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", old))
