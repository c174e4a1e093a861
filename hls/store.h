// Store: outputs to DRAM, as they are or through a max-pooling window.
#ifndef SQUEEZEEDGE_VTA_STORE_H
#define SQUEEZEEDGE_VTA_STORE_H

#include "load.h"
#include "transfer.h"

namespace vta {

constexpr uint32_t LARGEST_KERNEL = 7;

inline Vector8 lane_max(const Vector8& a, const Vector8& b) {
#pragma HLS inline
  Vector8 result;
  for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
    result.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  }
  return result;
}

// XPOOL. Every column of the tile is reduced once per output row; the last column maxima are kept, so a window costs
// kernel_h * stride_w reads and not kernel_h * kernel_w. Columns and rows outside of the tile count as LOWEST.
inline void pool(const Instruction& instruction, Port port, uint64_t base, const Vector8 (&out)[ACC_DEPTH],
                 uint32_t& pending) {
#pragma HLS inline
  constexpr uint32_t BEATS = VECTOR8_BYTES / VTA_BUS_BYTES;
  const AccIndex sram(get<VTA_XPOOL_SRAM_BASE>(instruction));
  const uint64_t dram = get<VTA_XPOOL_DRAM_BASE>(instruction);
  const uint32_t kernel_h = get<VTA_XPOOL_KERNEL_H>(instruction);
  const uint32_t kernel_w = get<VTA_XPOOL_KERNEL_W>(instruction);
  const uint32_t stride_h = get<VTA_XPOOL_STRIDE_H>(instruction);
  const uint32_t stride_w = get<VTA_XPOOL_STRIDE_W>(instruction);
  const uint32_t y_size = get<VTA_XPOOL_Y_SIZE>(instruction);
  const uint32_t x_size = get<VTA_XPOOL_X_SIZE>(instruction);
  const uint32_t x_stride = get<VTA_XPOOL_X_STRIDE>(instruction);
  const uint32_t rows = get<VTA_XPOOL_ROWS>(instruction);
  const uint32_t cols = get<VTA_XPOOL_COLS>(instruction);
  const uint32_t pad_top = get<VTA_XPOOL_PAD_TOP>(instruction);
  const uint32_t pad_left = get<VTA_XPOOL_PAD_LEFT>(instruction);
  // An output's beats leave while the next ones are computed, so no output may come earlier than those are gone.
  const uint32_t taps = kernel_h > BEATS ? kernel_h : BEATS;
  const uint32_t columns = x_size == 0 ? 0 : (x_size - 1) * stride_w + kernel_w;

  for (uint32_t y = 0; y < y_size && x_size > 0; ++y) {
    Vector8 window[LARGEST_KERNEL];  // maxima of the last columns, the newest first
#pragma HLS aggregate variable=window
#pragma HLS array_partition variable=window complete  // a shift register
    Vector8 column;
    uint8_t bytes[VECTOR8_BYTES];
#pragma HLS array_partition variable=bytes complete  // holds an output while its beats leave
    uint32_t beats = 0;
    uint32_t x = 0, tap = 0, until_output = kernel_w;
    request_write(port, beat_of<VECTOR8_BYTES>(base, dram + static_cast<uint64_t>(y) * x_stride), x_size * BEATS,
                  pending);
    for (uint32_t step = 0; step < columns * taps; ++step) {
#pragma HLS pipeline II=1  // one read of the output memory per cycle
      const uint32_t row = y * stride_h + tap;  // counted from pad_top above the tile
      const bool inside =
          tap < kernel_h && row >= pad_top && row - pad_top < rows && x >= pad_left && x - pad_left < cols;
      Vector8 value;
      fill(value, LOWEST);
      if (inside) value = out[AccIndex(sram + (row - pad_top) * cols + (x - pad_left))];
      column = tap == 0 ? value : lane_max(column, value);
      if (tap + 1 == taps) {
        for (uint32_t i = LARGEST_KERNEL - 1; i > 0; --i) {
#pragma HLS unroll
          window[i] = window[i - 1];
        }
        window[0] = column;
        if (--until_output == 0) {
          Vector8 output = window[0];
          for (uint32_t i = 1; i < LARGEST_KERNEL; ++i) {
#pragma HLS unroll
            if (i < kernel_w) output = lane_max(output, window[i]);
          }
          pack(output, bytes);
          beats = BEATS;
          until_output = stride_w;
        }
        tap = 0;
        ++x;
      } else {
        ++tap;
      }
      if (beats > 0) {
        port.write(beat_at(bytes, BEATS - beats));
        --beats;
      }
    }
    for (; beats > 0; --beats) port.write(beat_at(bytes, BEATS - beats));
  }
}

// A token to compute may let a later load read what was stored: it needs the responses.
inline void store_instruction(const Instruction& instruction, Port port, uint64_t base, const Vector8 (&out)[ACC_DEPTH],
                              uint32_t& pending) {
#pragma HLS inline
  if (opcode(instruction) == XPOOL) {
    pool(instruction, port, base, out, pending);
  } else {
    store_rows<VECTOR8_BYTES, AccIndex>(port, base, store_transfer(instruction), out, pending);
  }
  if (pushes_previous(instruction)) await_writes(port, pending);
}

inline void store(Port port, uint64_t base, CommandQueue& queue, TokenQueue& from_compute, TokenQueue& to_compute,
                  const Vector8 (&out)[ACC_DEPTH]) {
  uint32_t pending = 0;
  for (Command command = queue.read(); !command.stop; command = queue.read()) {
    const Instruction& instruction = command.instruction;
    if (pops_previous(instruction)) from_compute.read();
    store_instruction(instruction, port, base, out, pending);
    if (pushes_previous(instruction)) to_compute.write(true);
  }
  await_writes(port, pending);
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_STORE_H
