"""Rewrites the glossary of concepts.md from `boxrl.report.glossary`, which owns it."""

from pathlib import Path

from boxrl.report.glossary import glossary_table

PAGE = Path(__file__).with_name("concepts.md")
BEGIN, END = "<!-- glossary: begin -->", "<!-- glossary: end -->"


def main() -> None:
    """Replace what stands between the two marks."""
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{glossary_table()}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
