// SPDX-License-Identifier: Apache-2.0
// What the control modules of the engine hand to each other, and their latencies.
`default_nettype none

package seq_pkg;
  // Cycles
  localparam int unsigned RING_LAT = 3;  // a read asked of engine.sv -> its word (1 here, 2 in the ring)
  localparam int unsigned WIN_LAT = 4;  // window: request -> fetch
  localparam int unsigned PIPE_LAT = 12;  // request -> taps; engine.sv checks it against the datapath
  // After the last request of an operation until its last word lies in the activation memory
  localparam int unsigned DW_DRAIN = 40;
  localparam int unsigned CONV_DRAIN = 64;
  // A tile must fit in the ring together with what the DMA asks for in one burst.
  localparam int unsigned MAX_K_WORDS = 4096 - 12 - 32;

  // Geometry of an operation: isa.py GEOMETRY, in_w in units of 8 pixels
  typedef struct packed {
    logic [12:0] groups;
    logic        in_signed;
    logic [1:0]  out_type;
    logic [1:0]  stride_log2;
    logic        up;
    logic        narrow;
    logic [6:0]  in_w8;
    logic [9:0]  in_h;
    logic [9:0]  y0;
    logic [5:0]  row_words;
  } geom_t;

  // One output word of the walk over a map
  typedef struct packed {
    logic [12:0]      g;  // its number
    logic             last;  // the last one of the map
    logic [12:0]      vy;  // Y * stride
    logic [5:0]       xo;  // word in the row
    logic [16:0]      base8;  // L / 8 of the centre tap, modulo 2**17
    logic             at_left;
    logic             at_right;
    logic [15:0][2:0] dil;  // dilation of each lane, from the map
    logic [7:0]       present;  // dilations that occur
  } item_t;
  localparam int unsigned ITEM_W = 13 + 1 + 13 + 6 + 17 + 1 + 1 + 48 + 8;

  // A read of one window: what `window` makes a fetch_t from
  typedef struct packed {
    logic             valid;
    logic             linear;  // the plain word plane + base8 / 2
    logic [15:0]      plane;
    logic [12:0]      vy;
    logic [16:0]      base8;
    logic             at_left;
    logic             at_right;
    logic [3:0]       delta;  // rows from the centre row, signed
    logic [1:0]       half;  // isa_pkg::HALF_*
    logic [15:0]      lanes;  // lanes that take part
    logic [15:0][2:0] dil;
  } request_t;

  // What travels with a snapshot of the multiplier array to its drain
  typedef struct packed {
    logic [12:0] g;
    logic        bank;  // of the header memory
    logic        first_tile;
    logic        last_group;  // of the tile
    logic [4:0]  n_oc;
  } side_t;
  localparam int unsigned SIDE_W = 13 + 1 + 1 + 1 + 5;

  // A candidate found by PEAK, on its way to the reads of its other four bytes
  typedef struct packed {
    logic [7:0]  logit;
    logic [7:0]  class_id;
    logic [12:0] g;
    logic [9:0]  y;  // row of lane 0
    logic [5:0]  xo;
    logic [3:0]  lane;
  } found_t;
  localparam int unsigned FOUND_W = 8 + 8 + 13 + 10 + 6 + 4;
endpackage

`default_nettype wire
