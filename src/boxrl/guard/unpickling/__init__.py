"""Pickles as plain data, by an interpreter that can build nothing else.

A pickle is a program. This interpreter knows the opcodes that make plain values (`opcodes`) and the
few names under which numpy arrays, sets and ordered dicts are written (`names`). No function, class
or type is in a pickle's reach: what it names are tokens, and arrays are decoded here from bytes
whose number is checked first. Time and memory grow with the file and no faster: what a byte could
ask for beyond that (depth, keys that are slow to hash, long numbers, copies, containers held over
and over) is bounded before it is built (`state`).

`answers` is the program that `boxrl.data.formats.pickles` starts for a file. Nothing here imports
numpy or another package of boxrl than `errors`, so that it starts in hundredths of a second.
"""
