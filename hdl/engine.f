// Synthesisable sources of the engine, packages first; names are relative to this folder.
engine/isa_pkg.sv
lib/fifo.sv
