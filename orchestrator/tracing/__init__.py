"""The nodes' flight recorders: turned on, collected, and printed as ftrace's text.

``recording`` turns them on and off, ``tracing`` is the verb; ``ftrace`` is the text's frame,
``ftracetable`` finds an event's row, ``ftracerows`` and ``ftraceparts`` are what it prints.
"""
