// SPDX-License-Identifier: Apache-2.0
// What the control modules of the engine hand to each other, and their latencies.
`default_nettype none

package seq_pkg;
  // Not every module uses every constant
  /* verilator lint_off UNUSEDPARAM */
  // Cycles
  localparam int unsigned RING_LAT = 3;  // a read asked of a side -> its word (1 there, 2 in the ring)
  localparam int unsigned WIN_LAT = 4;  // window: request -> fetch
  localparam int unsigned PIPE_LAT = 12;  // request -> taps; array_side checks it against the datapath
  localparam int unsigned SMAP_LAT = 3;  // smap: look-up -> dilations
  localparam int unsigned LANE_REQ_LAT = 1;  // lane_request_t -> read of the memory
  // An entry: lane_request_t -> ins_valid of the lanes; lane_side checks it
  localparam int unsigned INSERT_LAT = 7;
  // Until a word has reached the queue of the activation memory: after the last entry of an
  // operation, after the last channel has left the array
  localparam int unsigned LANE_DRAIN = 20;
  localparam int unsigned CONV_DRAIN = 6;
  // A tile must fit in the ring together with what the DMA asks for in one burst.
  localparam int unsigned MAX_K_WORDS = 4096 - 12 - 32;
  /* verilator lint_on UNUSEDPARAM */

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

  // ---- array

  // One output word of the walk over a map
  typedef struct packed {
    logic [12:0] g;  // its number
    logic        last;  // the last one of the map
    logic [12:0] vy;  // Y * stride
    logic [16:0] base8;  // L / 8 of the centre tap, modulo 2**17
    logic        at_left;
    logic        at_right;
  } item_t;

  // A read of one window: what `window` makes a fetch_t from
  typedef struct packed {
    logic        valid;
    logic        linear;  // the plain word plane + base8 / 2
    logic [15:0] plane;
    logic [12:0] vy;
    logic [16:0] base8;
    logic        at_left;
    logic        at_right;
    logic [3:0]  delta;  // rows from the centre row, signed
    logic [1:0]  half;  // isa_pkg::HALF_*
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

  // ---- lanes

  // One row of a column of words, of any channel
  typedef struct packed {
    logic        emit;  // it is the centre of an output row
    logic        half;  // narrow: the output row is odd
    logic        last;  // of the channel
    logic [10:0] v;  // the row as seen (after upsampling)
    logic [5:0]  xo;  // word in the row
    logic [16:0] base8;  // L / 8 of its first pixel
    logic [15:0] offset;  // of the result in its plane, words
    logic        at_left;
    logic        at_right;
  } entry_t;

  // What an entry of the row chain takes along to the chain's centre
  typedef struct packed {
    logic             emit;  // a result is computed
    logic             half;  // narrow: lanes 0-7 of this row are pixels 8-15 of the word
    logic [10:0]      v;
    logic             at_left;  // first word of its row
    logic             at_right;  // last word of its row
    logic [35:0]      weights;  // 9 x int4, tap (0, 0) lowest, row-major
    logic [24:0]      bias;
    logic [4:0]       shift;  // shift + 7
    logic [15:0]      addr;  // of the result word
    logic [15:0][2:0] dil;  // of each lane; 1 for all but DDW
  } meta_t;
  localparam int unsigned META_W = 1 + 1 + 11 + 1 + 1 + 36 + 25 + 5 + 16 + 48;

  // How the pixels of an entry's row lie in the window that comes with it
  typedef struct packed {
    logic       pre;  // the row begins 8 pixels later
    logic [1:0] mode;  // engine_pkg::MODE_STRIDE1, MODE_UP or MODE_STRIDE2
    logic       at_left;
    logic       at_right;
  } pick_t;

  // Constant while an operation runs, and until its last result is out
  typedef struct packed {
    logic       reach7;  // DDW: entries are inserted at position +7, else at +1
    logic       stride2;
    logic       narrow;  // lanes 0-7 only, two output rows make a word
    logic       max_mode;  // POOL and PEAK: maximum instead of the sum
    logic       fill_min;  // POOL and PEAK: outside lies the least value of the type
    logic       in_signed;
    logic [1:0] out_type;
    logic [9:0] in_h;  // rows as seen
  } mode_t;

  // A step of the lane side: a read of the memory, an entry of the chain, or both
  typedef struct packed {
    logic        read;
    logic        insert;
    logic        raw;  // the plain word comes out beside the chain
    logic [15:0] plane;
    logic [16:0] base8;  // the word plane + base8 / 2
    meta_t       meta;  // without dil, which the dilation map fills in
  } lane_request_t;

  // A candidate found by PEAK, kept until EMIT reads its other four bytes
  typedef struct packed {
    logic [7:0]  logit;
    logic [7:0]  class_id;
    logic [12:0] g;
    logic [9:0]  y;
    logic [5:0]  xo;
    logic [3:0]  lane;
  } found_t;
  localparam int unsigned FOUND_W = 8 + 8 + 13 + 10 + 6 + 4;
endpackage

`default_nettype wire
