"""Where the public names of this package come from; all that is not ours is E2B's."""

from __future__ import annotations

OURS = {
    "charts": (
        "BarChart",
        "BarData",
        "BoxAndWhiskerChart",
        "BoxAndWhiskerData",
        "Chart",
        "Chart2D",
        "ChartType",
        "ChartTypes",
        "LineChart",
        "PieChart",
        "PieData",
        "PointChart",
        "PointData",
        "ScaleType",
        "ScatterChart",
        "SuperChart",
    ),
    "client": (
        "E2B",
        "E2BClientParams",
    ),
    "directories": (
        "TransferProgress",
        "Transferred",
    ),
    "errors": (
        "ArchiveException",
        "ConnectionLostException",
        "EmbeddedHostException",
        "ExecutionLostException",
        "ExecutionTimeoutException",
        "InvalidCodeException",
        "NeedsWebSocketException",
        "RequestTimeoutException",
        "SandboxKilledException",
        "SandboxPausedException",
    ),
    "handle": ("ExecutionHandle",),
    "handle_async": ("AsyncExecutionHandle",),
    "models": (
        "Context",
        "Execution",
        "ExecutionError",
        "InputPrompt",
        "Logs",
        "MIMEType",
        "OutputHandler",
        "OutputHandlerWithAsync",
        "OutputMessage",
        "Result",
        "RunCodeLanguage",
    ),
    "safe_text": ("visible_text",),
    "protocol.executions": (
        "Cause",
        "ExecutionEvent",
        "ExecutionStatus",
        "KernelState",
        "OutputReceipt",
        "Receipt",
    ),
    "resources": (
        "AsyncSecret",
        "AsyncTemplate",
        "AsyncVolume",
        "Secret",
        "Template",
        "Volume",
    ),
    "sandbox": ("Sandbox",),
    "sandbox_async": ("AsyncSandbox",),
    "views": (
        "JupyterServer",
        "Table",
        "TableColumn",
        "TableFormat",
        "Variable",
        "table_of",
    ),
}
"""Module of this package → what it has for everyone."""
_MODULES = {name: module for module, names in OURS.items() for name in names}


def module_of(name: str) -> str:
    """The module to import for a public name."""
    return f"code_interpreter.{_MODULES[name]}" if name in _MODULES else "e2b"
