"""Four years of weather, analysed in a sandbox: from a CSV file to charts on your disk.

    python notebooks/seattle_weather.py [folder for the charts]

The data set ships inside the PyPI package vega_datasets. Each ``run_code`` is a cell of the
same kernel: variables, imports and functions stay.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from vega_datasets import local_data

from code_interpreter import BarChart, Execution, Sandbox

LOAD = """
import matplotlib.pyplot as plt
import pandas as pd

weather = pd.read_csv("weather.csv", parse_dates=["date"])
print(f"{len(weather)} days, {weather.date.min():%Y-%m-%d} to {weather.date.max():%Y-%m-%d}")
weather.describe().round(1)
"""

BY_MONTH = """
monthly = weather.groupby(weather.date.dt.month).agg(
    rain=("precipitation", "mean"), warm=("temp_max", "mean"), cold=("temp_min", "mean")
)
monthly.index = ["Jan", "Feb", "Mar", "Apr", "May", "Jun",
                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
print("wettest month:", monthly.rain.idxmax())
print("driest month:", monthly.rain.idxmin())
monthly.round(1)
"""

RAIN = """
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.bar(monthly.index, monthly.rain, color="steelblue")
axes.set(title="Rain in Seattle, 2012 to 2015", xlabel="month", ylabel="rain a day (mm)")
plt.show()
"""

WARMTH = """
figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
axes.plot(monthly.index, monthly.warm, color="firebrick", label="highest of the day")
axes.plot(monthly.index, monthly.cold, color="steelblue", label="lowest of the day")
axes.set(title="Warmth in Seattle, 2012 to 2015", xlabel="month", ylabel="temperature (°C)")
axes.legend()
plt.show()
"""

MISTAKE = 'weather.groupby("humidity").size()'

GOES_ON = 'print((weather.weather == "snow").sum(), "days with snow")'


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Sandbox.create() as sandbox:
        data = Path(local_data.seattle_weather.filepath).read_bytes()
        sandbox.files.write("weather.csv", data)

        show("The data", sandbox.run_code(LOAD))
        show("By month", sandbox.run_code(BY_MONTH))

        rain = sandbox.run_code(RAIN)
        save_charts(rain, folder / "rain.png")
        show_chart_data(rain)
        save_charts(sandbox.run_code(WARMTH), folder / "warmth.png")

        mistake = sandbox.run_code(MISTAKE)
        assert mistake.error is not None
        title(f"A mistake: {mistake.error.name}: {mistake.error.value}")
        print(mistake.error.traceback)

        show("The same kernel goes on", sandbox.run_code(GOES_ON))


def title(text: str) -> None:
    print(f"\n== {text}")


def show(heading: str, execution: Execution) -> None:
    """What the cell printed, and the value of its last line."""
    if execution.error is not None:
        raise SystemExit(execution.error.traceback)
    title(heading)
    print("".join(execution.logs.stdout), end="")
    if execution.text is not None:
        print(execution.text)


def save_charts(execution: Execution, path: Path) -> None:
    if execution.error is not None:
        raise SystemExit(execution.error.traceback)
    for result in execution.results:
        if result.png is not None:
            path.write_bytes(base64.b64decode(result.png))
            title(f"A chart: {path}")


def show_chart_data(execution: Execution) -> None:
    """A chart is data as well as a picture."""
    chart = execution.results[0].chart
    assert isinstance(chart, BarChart)
    print(f"{chart.type} chart, {chart.y_label} by {chart.x_label}")
    for bar in chart.elements:
        print(f"  {bar.label}  {float(bar.value or 0):.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "charts"))
