"""Dashboards: what each process of a machine does, on one screen, read from RAM pages only.

``model`` samples the pages. For each screen there are three files: ``cpufacts`` reads what the
pages say of a CPU, ``cpusentences`` says it in one sentence, ``cpu`` draws; so with the others.
``live`` shows a screen on a terminal, as text, as SVG or as JSON.
"""
