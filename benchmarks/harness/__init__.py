"""What the benchmarks share.

data
    The data sets.
cases
    The arrays: which data, and how they are stored.
operations
    The ways to read and write an array, and how each is verified.
implementations
    Who reads and writes.
measuring
    Times them side by side.
report
    Ratios, tables and JSON of what was measured.
model
    What measurements with 1 and 2 threads say of many.
charts, page
    The charts and tables of docs/performance.md; charts need matplotlib.
machine
    What it was measured on.
files
    The files of a stored array.
arguments
    What several scripts take on their command lines.
peers
    Makes an environment with all implementations; it needs nothing but Python.
"""
