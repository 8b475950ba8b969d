"""Dashboards: what each process of a machine does, on one screen, read from RAM pages only.

``model`` samples the pages, ``sentences`` says in words what they mean, ``overview cpu apic nic
lan`` draw, ``live`` shows a screen on a terminal, as text, as SVG or as JSON.
"""
