"""The grid of runs that `fewscan benchmark` makes; the code's speed is measured by `benchmarks/`, beside `src/`."""
