"""Other people's ideas, brought to the study as ``extras.MODULE:FUNCTION`` by its open doors.

They are written as anybody's would be: against :mod:`pacd` alone, with no entry in its tables.
"""
