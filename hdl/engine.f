// Synthesisable sources of the engine, packages first; names are relative to this folder.
engine/isa_pkg.sv
lib/fifo.sv
engine/stream_ring.sv
engine/burst_split.sv
engine/dma_read.sv
engine/dma_write.sv
