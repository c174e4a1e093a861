// DRAM <-> on-chip memory, one beat per cycle.
#ifndef SQUEEZEEDGE_VTA_TRANSFER_H
#define SQUEEZEEDGE_VTA_TRANSFER_H

#include "isa.h"

namespace vta {

// Rows that are requested before the first one has arrived: hides the latency between short rows. The adapter's
// read buffer has room for as many bursts (see vta.cpp).
constexpr uint32_t ROWS_AHEAD = 8;

constexpr int VECTOR8_BYTES = BLOCK;
constexpr int VECTOR32_BYTES = 4 * BLOCK;
constexpr int PARAMETER_BYTES = 5 * BLOCK;

// First beat of an element of BYTES bytes.
template <int BYTES>
uint64_t beat_of(uint64_t base, uint64_t element) {
#pragma HLS inline
  return base / VTA_BUS_BYTES + element * (BYTES / VTA_BUS_BYTES);
}

// Bytes 4 * index.. of an array as a number.
template <int BYTES>
int32_t little_endian(const uint8_t (&bytes)[BYTES], int index) {
#pragma HLS inline
  const uint32_t value = static_cast<uint32_t>(bytes[4 * index]) | static_cast<uint32_t>(bytes[4 * index + 1]) << 8 |
                         static_cast<uint32_t>(bytes[4 * index + 2]) << 16 |
                         static_cast<uint32_t>(bytes[4 * index + 3]) << 24;
  return static_cast<int32_t>(value);
}

// The bytes of an element as they lie in DRAM, and back.
inline void unpack(const uint8_t (&bytes)[VECTOR8_BYTES], Vector8& element) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    element.lane[i] = static_cast<int8_t>(bytes[i]);
  }
}

inline void unpack(const uint8_t (&bytes)[VECTOR32_BYTES], Vector32& element) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    element.lane[i] = little_endian(bytes, i);
  }
}

inline void unpack(const uint8_t (&bytes)[PARAMETER_BYTES], Parameter& element) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    element.bias[i] = little_endian(bytes, i);
    element.shift[i] = static_cast<uint8_t>(bytes[4 * BLOCK + i] & SHIFT_MASK);
  }
}

inline void pack(const Vector8& element, uint8_t (&bytes)[VECTOR8_BYTES]) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    bytes[i] = static_cast<uint8_t>(element.lane[i]);
  }
}

inline void pack(const Vector32& element, uint8_t (&bytes)[VECTOR32_BYTES]) {
#pragma HLS inline
  for (int i = 0; i < VECTOR32_BYTES; ++i) {
#pragma HLS unroll
    bytes[i] = static_cast<uint8_t>(static_cast<uint32_t>(element.lane[i / 4]) >> (8 * (i % 4)));
  }
}

inline void fill(Vector8& element, int8_t value) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    element.lane[i] = value;
  }
}

inline void fill(Vector32& element, int8_t value) {
#pragma HLS inline
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    element.lane[i] = value;
  }
}

// Memories are written and read in whole elements: one access of one wide word.
template <typename Index, typename Element, int DEPTH>
void put(Element (&memory)[DEPTH], Index index, const Element& element) {
#pragma HLS inline
  memory[index] = element;
}

inline void put(Vector8 (&wgt)[WGT_DEPTH][BLOCK], WgtRowIndex row, const Vector8& element) {
#pragma HLS inline
  wgt[row / BLOCK][row % BLOCK] = element;
}

// Ask for the rows that come while row ``row`` is read: the first row asks for the first ROWS_AHEAD, every other row
// for one more.
template <int BYTES>
void request_ahead(Port port, uint64_t base, const Transfer& transfer, uint32_t row) {
#pragma HLS inline
  const uint32_t first = row == 0 ? 0 : row + ROWS_AHEAD - 1;
  const uint32_t end = row + ROWS_AHEAD < transfer.rows ? row + ROWS_AHEAD : transfer.rows;
  for (uint32_t ahead = first; ahead < end && transfer.size > 0; ++ahead) {
    port.read_request(beat_of<BYTES>(base, transfer.dram + static_cast<uint64_t>(ahead) * transfer.stride),
                      transfer.size * (BYTES / VTA_BUS_BYTES));
  }
}

// One requested row of consecutive elements into a memory.
template <int BYTES, typename Element, typename Index, typename Memory>
void read_row(Port port, uint32_t size, Index& index, Memory& memory) {
#pragma HLS inline
  constexpr uint32_t BEATS = BYTES / VTA_BUS_BYTES;
  uint8_t bytes[BYTES];
#pragma HLS array_partition variable=bytes complete  // an element is written at once, when its last beat is here
  uint32_t beat = 0;
  for (uint32_t i = 0; i < size * BEATS; ++i) {
#pragma HLS pipeline II=1  // the bus delivers one beat per cycle
    const Beat data = port.read();
    for (int j = 0; j < VTA_BUS_BYTES; ++j) {
#pragma HLS unroll
      bytes[beat * VTA_BUS_BYTES + static_cast<uint32_t>(j)] = beat_byte(data, j);
    }
    if (++beat == BEATS) {
      Element element;
      unpack(bytes, element);
      put(memory, index, element);
      index += 1;
      beat = 0;
    }
  }
}

template <typename Element, typename Index, typename Memory>
void pad(uint32_t count, bool low, Index& index, Memory& memory) {
#pragma HLS inline
  for (uint32_t i = 0; i < count; ++i) {
#pragma HLS pipeline II=1  // one element per cycle
    Element element;
    fill(element, low ? LOWEST : 0);
    put(memory, index, element);
    index += 1;
  }
}

// A load without padding.
template <int BYTES, typename Index, typename Element, typename Memory>
void load_rows(Port port, uint64_t base, const Transfer& transfer, Memory& memory) {
#pragma HLS inline
  Index index(transfer.sram);
  for (uint32_t row = 0; row < transfer.rows; ++row) {
    request_ahead<BYTES>(port, base, transfer, row);
    read_row<BYTES, Element>(port, transfer.size, index, memory);
  }
}

// A load with padding on all sides.
template <int BYTES, typename Index, typename Element, typename Memory>
void load_padded(Port port, uint64_t base, const Transfer& transfer, Memory& memory) {
#pragma HLS inline
  const uint32_t width = transfer.left + transfer.size + transfer.right;
  Index index(transfer.sram);
  pad<Element>(transfer.top * width, transfer.low, index, memory);
  for (uint32_t row = 0; row < transfer.rows; ++row) {
    request_ahead<BYTES>(port, base, transfer, row);
    pad<Element>(transfer.left, transfer.low, index, memory);
    read_row<BYTES, Element>(port, transfer.size, index, memory);
    pad<Element>(transfer.right, transfer.low, index, memory);
  }
  pad<Element>(transfer.bottom * width, transfer.low, index, memory);
}

// Beat number ``beat`` of an element's bytes.
template <int BYTES>
Beat beat_at(const uint8_t (&bytes)[BYTES], uint32_t beat) {
#pragma HLS inline
  Beat data;
  for (int j = 0; j < VTA_BUS_BYTES; ++j) {
#pragma HLS unroll
    set_beat_byte(data, j, bytes[beat * VTA_BUS_BYTES + static_cast<uint32_t>(j)]);
  }
  return data;
}

// Writes without a response so far. They are waited for when the data must be visible to other processes, and when
// the adapter has no room for more.
constexpr uint32_t MOST_PENDING = 8;

inline void request_write(Port port, uint64_t beat, uint32_t length, uint32_t& pending) {
#pragma HLS inline
  if (pending == MOST_PENDING) {
    port.write_response();
    --pending;
  }
  port.write_request(beat, length);
  ++pending;
}

inline void await_writes(Port port, uint32_t& pending) {
#pragma HLS inline
  for (; pending > 0; --pending) port.write_response();
}

template <int BYTES, typename Index, typename Element, int DEPTH>
void store_rows(Port port, uint64_t base, const Transfer& transfer, const Element (&memory)[DEPTH], uint32_t& pending) {
#pragma HLS inline
  constexpr uint32_t BEATS = BYTES / VTA_BUS_BYTES;
  Index index(transfer.sram);
  uint8_t bytes[BYTES];
#pragma HLS array_partition variable=bytes complete  // an element is read from its memory at once
  for (uint32_t row = 0; row < transfer.rows && transfer.size > 0; ++row) {
    request_write(port, beat_of<BYTES>(base, transfer.dram + static_cast<uint64_t>(row) * transfer.stride),
                  transfer.size * BEATS, pending);
    uint32_t beat = 0;
    for (uint32_t i = 0; i < transfer.size * BEATS; ++i) {
#pragma HLS pipeline II=1  // the bus takes one beat per cycle
      if (beat == 0) {
        const Element element = memory[index];
        pack(element, bytes);
        index += 1;
      }
      port.write(beat_at(bytes, beat));
      beat = beat + 1 == BEATS ? 0 : beat + 1;
    }
  }
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_TRANSFER_H
