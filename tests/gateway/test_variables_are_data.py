"""Whatever names and values of environment variables hold, they are data in every language."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.gateway.installed import needs
from tests.gateway.world import World

pytestmark = [pytest.mark.security, pytest.mark.asyncio(loop_scope="module")]
PIECES = ["'", '"', "`", "\\", "\n", "\r", "\t", "$", "${x}", "$(id)", "{0}", "%s", "=", "#{1}"]
PIECES += ["\\u0022", "\\", "*/", "//", "#", "</", "\u2028", "\u202e", "ü", "😀", "\x01", "'''"]
PIECES += ["); throw 1; (", "'; exit 9; '", '"); quit(); ("', "null", "[1]"]
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
text = st.lists(st.sampled_from(PIECES) | st.text(characters, max_size=5), max_size=6).map("".join)
"""Without NUL, as variables are."""
EXAMPLES = 3
"""Cells of each language; one has many variables."""


READ = {
    "python": "import json, os; print(json.dumps(dict(os.environ)))",
    "javascript": "console.log(JSON.stringify(Deno.env.toObject()))",
    "bash": "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'",
    "r": "cat(jsonlite::toJSON(as.list(Sys.getenv()), auto_unbox = TRUE))",
    "java": """
        var told = new StringBuilder();
        var encoder = Base64.getEncoder();
        for (var name : System.getProperties().stringPropertyNames())
            for (var word : List.of(name, System.getProperty(name)))
                told.append(encoder.encodeToString(word.getBytes("UTF-8"))).append(' ');
        System.out.println(told);
    """,
}
"""Prints all variables there are: JSON, or names and values in base64."""
LANGUAGES = [pytest.param(language, marks=needs(language)) for language in READ]
THERE = {"python": "HOME", "javascript": "HOME", "bash": "HOME", "r": "HOME", "java": "user.home"}
"""A variable that is there before."""


async def _variables(world: World, language: str, **own: str) -> dict[str, str]:
    outcome = await world.run(READ[language], language=language, env_vars=own)
    assert outcome.error is None, outcome.error
    told = outcome.stdout
    if language != "java":
        return dict(json.loads(told))
    words = [base64.b64decode(word).decode() for word in told.split(" ")[:-1]]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    names=st.lists(text.filter(bool), min_size=12, max_size=25),
    values=st.lists(text, min_size=26, max_size=26),
)
@example(names=[piece for piece in PIECES if piece != "="], values=PIECES)
async def test_they_are_there_as_they_are_and_gone_afterwards(
    shared: World, language: str, names: list[str], values: list[str]
) -> None:
    before = await _variables(shared, language)
    plain = [f"N{number}" for number in range(len(names))]
    odd = [] if language == "bash" else [name.replace("=", "") + "_" for name in names]
    own = dict(zip([THERE[language], *plain, *odd], values * 3, strict=False))
    there = await _variables(shared, language, **own)
    assert {name: there.get(name) for name in own} == own
    assert _lasting(await _variables(shared, language)) == _lasting(before)


def _lasting(variables: dict[str, str]) -> dict[str, str]:
    """But for what bash itself counts."""
    return {name: value for name, value in variables.items() if name not in ("SHLVL", "_")}


BAD = [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0y"}, {"A": "\ud800"}, {"\udc41": "x"}]


@pytest.mark.parametrize("variables", BAD, ids=ascii)
@pytest.mark.parametrize("language", ["python", "javascript", "bash"])
async def test_what_can_be_none_is_refused(
    shared: World, language: str, variables: dict[str, str]
) -> None:
    """In the same words for every language, and before anything runs."""
    async with shared.client() as client:
        body: dict[str, Any] = {"code": "1", "language": language, "env_vars": variables}
        answer = await client.post("/execute", content=json.dumps(body))
    assert answer.status_code == 400, answer.text
    assert "env_vars" in answer.text
