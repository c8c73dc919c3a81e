"""What fewscan costs: seconds, memory, ratios, all measured in one run. `make bench`, or `python -m benchmarks --help`.

Not installed with the package. The dense representation head and loss that fewscan is measured against live here.
"""
