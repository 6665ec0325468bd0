import os
from pathlib import Path

import pytest

from tests.testbed.documents import blocks, follow

TEXT = """\
With this in `a.yaml`:

```yaml
x: 1
```

```sh
cat a.yaml
#  x: 1
printf 'one\\ntwo words\\n'  # a comment
#  one
#  two ...
```

```yaml
never: written
```
"""


def test_a_document_is_taken_apart() -> None:
    assert [(block.language, block.line, block.file) for block in blocks(TEXT)] == [
        ("yaml", 4, "a.yaml"),
        ("sh", 8, ""),
        ("yaml", 16, ""),
    ]


def test_a_document_is_followed(tmp_path: Path) -> None:
    assert "two words" in follow(TEXT, tmp_path, {"PATH": os.environ["PATH"]}, {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.yaml", ".output"}


@pytest.mark.parametrize(("old", "new"), [("x: 1\n```", "x: 2\n```"), ("#  one", "#  three"), ("cat a.yaml", "false")])
def test_a_document_that_is_wrong_fails(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        follow(TEXT.replace(old, new), tmp_path, {}, {})


def test_what_a_document_left_running_is_ended(tmp_path: Path) -> None:
    follow("```sh\nsleep 300 &\necho $! > pid\n```\n", tmp_path, {}, {})
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
