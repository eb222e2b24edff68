"""Tests of the data room; archives are built as their publishers have them."""
