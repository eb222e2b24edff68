"""Tests of boxrl.data; archives are built as their publishers have them."""
