"""The report: one HTML page about a model before and after training, and a table for the terminal.

`page.py` builds the page, `summary.py` the table; `loading.py` reads the run directories, `plots.py` draws,
`diff.py` sets two programs side by side. Nothing imports matplotlib, Jinja2 or Pygments before it is needed.
"""
