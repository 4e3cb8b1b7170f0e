"""Events of an execution in, an `Execution` and calls of callbacks out. No I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from code_interpreter.errors import InvalidArgumentException
from code_interpreter.models import (
    Execution,
    ExecutionError,
    InputPrompt,
    Logs,
    OutputMessage,
    Result,
)
from code_interpreter.protocol import executions as wire

Callback: TypeAlias = Callable[[Any], Any] | None
Call: TypeAlias = tuple[Callable[[Any], Any], Any] | None
"""A callback that is due, and its argument."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the caller of ``run_code`` wants to hear at once."""

    on_stdout: Callback = None
    on_stderr: Callback = None
    on_result: Callback = None
    on_error: Callback = None
    on_update: Callback = None
    """A result that was shown before has new content."""
    on_input: Callback = None
    """The cell asks for a line; its return value is the answer."""


class Collector:
    """Puts one execution together, event by event."""

    def __init__(self, callbacks: Callbacks, execution_id: str | None = None) -> None:
        self.execution = Execution(id=execution_id)
        self._callbacks = callbacks
        self._clear_on_next = False
        self.queue_position: int | None = None
        """Cells of its context before it; None if it does not wait."""

    def take(self, event: wire.ExecutionEvent) -> Call:
        """Add an event; the answer is the callback to call now, if there is one."""
        match event:
            case wire.Stdout():
                return self._print(event.text, event.timestamp, error=False)
            case wire.Stderr():
                return self._print(event.text, event.timestamp, error=True)
            case wire.ResultEvent():
                return self._result(event)
            case wire.ErrorEvent():
                return self._error(event)
            case wire.DisplayUpdate():
                return self._update(event)
            case wire.InputRequest():
                prompt = InputPrompt(event.prompt, password=event.password)
                return _call(self._callbacks.on_input, prompt)
            case wire.ClearOutput():
                self._clear(wait=event.wait)
            case wire.NumberOfExecutions():
                self.execution.execution_count = event.execution_count
                self.queue_position = None
            case wire.Accepted():
                self.execution.context_id = event.context_id
                self.queue_position = event.queue_position or None
            case wire.QueueMoved():
                self.queue_position = event.queue_position
            case wire.EndOfExecution():
                self._end(event)
        return None

    def take_line(self, line: Mapping[str, Any]) -> Call:
        """Add a line of ``POST /execute``, in the form that E2B's server has too."""
        match line.get("type"):
            case "stdout":
                return self._print(line["text"], line.get("timestamp", ""), error=False)
            case "stderr":
                return self._print(line["text"], line.get("timestamp", ""), error=True)
            case "result":
                fields = {key: value for key, value in line.items() if key != "type"}
                return self._show(Result(**fields))
            case "error":
                return self._fail(ExecutionError(line["name"], line["value"], line["traceback"]))
            case "number_of_executions":
                self.execution.execution_count = line["execution_count"]
        return None

    def _print(self, text: str, timestamp: int | str, *, error: bool) -> Call:
        self._clear_if_due()
        logs = self.execution.logs
        (logs.stderr if error else logs.stdout).append(text)
        callback = self._callbacks.on_stderr if error else self._callbacks.on_stdout
        return None if callback is None else (callback, OutputMessage(text, timestamp, error))

    def _result(self, event: wire.ResultEvent) -> Call:
        result = _read_bundle(event.bundle)
        result.is_main_result = event.is_main_result
        result.display_id = event.display_id
        result.context_id = self.execution.context_id
        return self._show(result)

    def _show(self, result: Result) -> Call:
        self._clear_if_due()
        self.execution.results.append(result)
        return _call(self._callbacks.on_result, result)

    def _update(self, event: wire.DisplayUpdate) -> Call:
        update = _read_bundle(event.bundle)
        update.display_id = event.display_id
        update.context_id = self.execution.context_id
        results = self.execution.results
        for place, result in enumerate(results):
            if result.display_id == event.display_id:
                results[place] = update.model_copy(update={"is_main_result": result.is_main_result})
        return _call(self._callbacks.on_update, update)

    def _error(self, event: wire.ErrorEvent) -> Call:
        return self._fail(
            ExecutionError(event.name, event.value, event.traceback, event.traceback_ansi)
        )

    def _fail(self, error: ExecutionError) -> Call:
        self._clear_if_due()
        self.execution.error = error
        return _call(self._callbacks.on_error, error)

    def _clear(self, *, wait: bool) -> None:
        self._clear_on_next = wait
        if not wait:
            self.execution.results = []
            self.execution.logs = Logs()

    def _clear_if_due(self) -> None:
        if self._clear_on_next:
            self._clear(wait=False)

    def _end(self, event: wire.EndOfExecution) -> None:
        self.queue_position = None
        execution = self.execution
        execution.status = event.status
        execution.kernel_state = event.kernel_state
        execution.cause = event.cause
        execution.exit_code = event.exit_code
        execution.signal = event.signal
        execution.receipt = event.receipt


def _call(callback: Callback, argument: object) -> Call:
    return None if callback is None else (callback, argument)


def _read_bundle(bundle: wire.Bundle) -> Result:
    return Result(
        bundle.text and _without_quotes(bundle.text),
        bundle.html,
        bundle.markdown,
        bundle.svg,
        bundle.png,
        bundle.jpeg,
        bundle.pdf,
        bundle.latex,
        bundle.json_,
        bundle.javascript,
        bundle.data,
        bundle.chart,
        extra=bundle.extra,
        text_repr=bundle.text,
    )


def _without_quotes(text: str) -> str:
    """E2B's clients show the string ``'a'`` as ``a``; so does every ``text``."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


async def settle(outcome: object) -> object:
    """What a callback returned, once it is there: callbacks may be coroutine functions."""
    return await outcome if inspect.isawaitable(outcome) else outcome


def input_line(answer: object) -> str:
    """What ``on_input`` returned, if it can be a line of input."""
    if not isinstance(answer, str):
        raise InvalidArgumentException(
            f"on_input must return the line as a str, not {type(answer).__name__}"
        )
    return answer


def earlier(one: float | None, other: float | None) -> float | None:
    """The first of two moments; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
