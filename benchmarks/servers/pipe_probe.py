"""Measures the throughput profile from inside a network of its own, where its server listens."""

from dataclasses import asdict

from benchmarks.pipe import THROUGHPUT, PipeLoad, measure, noop_server
from benchmarks.servers.child import arguments, live, own_output


def main() -> None:
    """Measure, and say what was found. Arguments: the fields of `PipeLoad`."""
    messages, given = own_output(), arguments()
    load = PipeLoad(**given)
    with noop_server(THROUGHPUT, load) as server:
        costs = [asdict(measure(server, load)) for _ in range(load.rounds)]
    live(messages, {"costs": costs}, {})


if __name__ == "__main__":
    main()
