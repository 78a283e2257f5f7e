"""A programming error is told of with its place, and its traceback is kept."""

import pickle

import pytest

from exdd_ray.cli.command import run_command
from exdd_ray.errors import DataError, Fault, UserError, fault_of, one_line


def divide():
    return 1 / 0


def caught(work):
    with pytest.raises(Exception) as error:  # noqa: PT011 (any)
        work()
    return error.value


def test_a_programming_error_has_type_place_and_traceback():
    fault = fault_of(caught(divide))
    assert fault.line.startswith("ZeroDivisionError: division by zero (test_errors.py:")
    assert fault.line.endswith(", in divide)")
    assert "return 1 / 0" in fault.trace
    assert "\n" not in fault.line


def test_a_users_error_has_its_line_alone():
    assert fault_of(DataError("no image\nmore")) == Fault("no image")
    assert one_line(ValueError("odd")) == "ValueError: odd"


def test_the_traceback_survives_another_process_and_is_shown_with_debug(capsys):
    error = pickle.loads(pickle.dumps(fault_of(caught(divide)))).told("a worker cannot paint")
    again = pickle.loads(pickle.dumps(error))
    assert fault_of(again) == Fault(str(error), error.trace)

    def fails():
        raise again

    assert run_command(fails) == 2
    said = capsys.readouterr().err
    assert said.startswith("exdd: a worker cannot paint: ZeroDivisionError: division by zero (")
    assert said.endswith(" (--debug shows the traceback)\n")
    with pytest.raises(UserError):
        run_command(fails, debug=True)
    assert "return 1 / 0" in capsys.readouterr().err
