// Compute: matrix products, vector operations, additions; micro-ops and accumulators from and to DRAM.
#ifndef SQUEEZEEDGE_VTA_COMPUTE_H
#define SQUEEZEEDGE_VTA_COMPUTE_H

#include "load.h"
#include "mac.h"
#include "transfer.h"

namespace vta {

struct ComputeBases {
  uint64_t uop;
  uint64_t acc;
};

inline AccIndex uop_dst(uint32_t micro_op) { return AccIndex(micro_op); }
constexpr int UOP_SRC_BITS = VTA_ACC_BITS > VTA_INP_BITS ? VTA_ACC_BITS : VTA_INP_BITS;
inline uint32_t uop_src(uint32_t micro_op) { return (micro_op >> VTA_ACC_BITS) & ((1U << UOP_SRC_BITS) - 1); }
inline WgtIndex uop_wgt(uint32_t micro_op) { return WgtIndex((micro_op >> (VTA_ACC_BITS + UOP_SRC_BITS))); }

// clip(value + offset, -128, 127) with the offset LOWEST (``low``) or 0.
inline int8_t narrow(int64_t value, bool low) {
#pragma HLS inline
  const int32_t least = low ? 0 : -128;
  const int32_t most = low ? 255 : 127;
  const int32_t clipped = value < least ? least : value > most ? most : static_cast<int32_t>(value);
  return static_cast<int8_t>(low ? clipped + LOWEST : clipped);
}

// Both matrix instructions as one loop nest, so that there is one array of multipliers: blocks, rows, columns, and the
// micro-ops innermost.
struct GemmLoop {
  uint32_t uop_bgn, uops, blocks, rows, cols;
  uint32_t dst_base, dst_block, dst_row, dst_col;
  uint32_t src_base, src_row, src_col;
  uint32_t wgt_base, wgt_block, wgt_row, wgt_col;
  uint32_t par;
  bool each;        // GEMM: every micro-op is a sum of its own, its dst and wgt count, and outputs mirror accumulators
  bool reset;       // GEMM: write zeros
  bool accumulate;  // start from the accumulators
  bool low, relu;
  uint32_t epilogue;
};

inline GemmLoop gemm_loop(const Instruction& instruction) {
#pragma HLS inline
  GemmLoop loop;
  const uint32_t uop_bgn = get<VTA_GEMM_UOP_BGN>(instruction);
  const uint32_t uop_end = get<VTA_GEMM_UOP_END>(instruction);
  loop.uop_bgn = uop_bgn;
  loop.uops = uop_end > uop_bgn ? uop_end - uop_bgn : 0;
  loop.blocks = 1;
  loop.rows = get<VTA_GEMM_ITER_OUT>(instruction);
  loop.cols = get<VTA_GEMM_ITER_IN>(instruction);
  loop.dst_base = loop.dst_block = 0;
  loop.dst_row = get<VTA_GEMM_DST_OUT>(instruction);
  loop.dst_col = get<VTA_GEMM_DST_IN>(instruction);
  loop.src_base = 0;
  loop.src_row = get<VTA_GEMM_SRC_OUT>(instruction);
  loop.src_col = get<VTA_GEMM_SRC_IN>(instruction);
  loop.wgt_base = loop.wgt_block = 0;
  loop.wgt_row = get<VTA_GEMM_WGT_OUT>(instruction);
  loop.wgt_col = get<VTA_GEMM_WGT_IN>(instruction);
  loop.par = 0;
  loop.each = true;
  loop.reset = get<VTA_GEMM_RESET>(instruction) != 0;
  loop.accumulate = true;
  loop.low = loop.relu = false;
  loop.epilogue = TO_ACC;
  return loop;
}

inline GemmLoop xgemm_loop(const Instruction& instruction) {
#pragma HLS inline
  GemmLoop loop;
  loop.uop_bgn = get<VTA_XGEMM_UOP_BGN>(instruction);
  loop.uops = get<VTA_XGEMM_UOPS>(instruction);
  loop.blocks = get<VTA_XGEMM_BLOCKS>(instruction);
  loop.rows = get<VTA_XGEMM_ROWS>(instruction);
  loop.cols = get<VTA_XGEMM_COLS>(instruction);
  loop.epilogue = get<VTA_XGEMM_EPILOGUE>(instruction);
  const bool sum = loop.epilogue == TO_SUM;  // one destination per block
  loop.dst_base = get<VTA_XGEMM_DST_BASE>(instruction);
  loop.dst_block = get<VTA_XGEMM_DST_BLOCK>(instruction);
  loop.dst_row = sum ? 0 : loop.cols;
  loop.dst_col = sum ? 0 : 1;
  loop.src_base = get<VTA_XGEMM_SRC_BASE>(instruction);
  loop.src_row = get<VTA_XGEMM_SRC_ROW>(instruction);
  loop.src_col = get<VTA_XGEMM_SRC_COL>(instruction);
  loop.wgt_base = get<VTA_XGEMM_WGT_BASE>(instruction);
  loop.wgt_block = loop.uops;
  loop.wgt_row = loop.wgt_col = 0;
  loop.par = get<VTA_XGEMM_PAR>(instruction);
  loop.each = loop.reset = false;
  loop.accumulate = get<VTA_XGEMM_ACCUMULATE>(instruction) != 0;
  loop.low = get<VTA_XGEMM_LOW>(instruction) != 0;
  loop.relu = get<VTA_XGEMM_RELU>(instruction) != 0;
  return loop;
}

inline void gemm(const GemmLoop& loop, const uint32_t (&uop)[UOP_DEPTH], Vector32 (&acc)[ACC_DEPTH],
                 const Vector8 (&inp)[INP_DEPTH], const Vector8 (&wgt)[WGT_DEPTH][BLOCK],
                 const Parameter (&par)[PAR_DEPTH], Vector8 (&out)[ACC_DEPTH]) {
#pragma HLS inline off  // one copy: it holds the multipliers
  const uint32_t steps = loop.blocks * loop.rows * loop.cols * loop.uops;
  const bool summing = loop.epilogue == TO_SUM;
  uint32_t u = 0, col = 0, row = 0;
  // Indices at the start of the block, of the row, and of the column; each wraps modulo its memory's depth.
  AccIndex dst_block(loop.dst_base), dst_row(loop.dst_base), dst_col(loop.dst_base);
  InpIndex src_row(loop.src_base), src_col(loop.src_base);
  WgtIndex wgt_block(loop.wgt_base), wgt_row(loop.wgt_base), wgt_col(loop.wgt_base);
  ParIndex parameter(loop.par);
  Vector32 sum, total;
#pragma HLS aggregate variable=sum  // registers: the reduction never waits for a memory
#pragma HLS aggregate variable=total

  for (uint32_t step = 0; step < steps; ++step) {
#pragma HLS pipeline II=1  // one micro-op per cycle
#pragma HLS dependence variable=acc type=inter false  // XGEMM never comes back, GEMM programs wait 8 steps
#pragma HLS dependence variable=out type=inter false  // only written here
    const uint32_t micro_op = uop[UopIndex(loop.uop_bgn + u)];
    const bool first = loop.each || u == 0;
    const bool last = loop.each || u + 1 == loop.uops;
    const AccIndex dst(dst_col + (loop.each ? uop_dst(micro_op) : AccIndex(0)));
    const InpIndex src(src_col + uop_src(micro_op));
    const WgtIndex weight(wgt_col + (loop.each ? uop_wgt(micro_op) : WgtIndex(u)));

    // Each memory is read at one place: one port of it is enough, the other one writes. What load fills is read only
    // where it counts: nothing keeps load from filling it for another instruction meanwhile.
    const Vector32 old = acc[dst];
    Vector32 products;
    fill(products, 0);
    if (!loop.reset) products = multiply(wgt[weight], inp[src]);
    Parameter scale = {};
    if (!loop.each) scale = par[parameter];
    if (first) {
      if (loop.accumulate && !summing) {
        sum = old;
      } else {
        for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
          sum.lane[i] = scale.bias[i];
        }
      }
    }
    for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
      sum.lane[i] = loop.reset ? 0 : add(sum.lane[i], products.lane[i]);
    }
    if (last && summing) {
      if (row == 0 && col == 0) {
        if (loop.accumulate) {
          total = old;
        } else {
          fill(total, 0);
        }
      }
      for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
        total.lane[i] = add(total.lane[i], loop.relu && sum.lane[i] < 0 ? 0 : sum.lane[i]);
      }
    }
    const bool block_done = row + 1 == loop.rows && col + 1 == loop.cols;
    if (last && (summing ? block_done : loop.epilogue == TO_ACC)) acc[dst] = summing ? total : sum;
    if (last && (loop.each || loop.epilogue == TO_OUT)) {
      Vector8 byte;
      for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
        const int8_t requantized = narrow(sum.lane[i] >> scale.shift[i], loop.low);
        byte.lane[i] = loop.each ? static_cast<int8_t>(sum.lane[i]) : requantized;
      }
      out[dst] = byte;
    }

    if (++u == loop.uops) {
      u = 0;
      if (++col == loop.cols) {
        col = 0;
        if (++row == loop.rows) {
          row = 0;
          dst_block += loop.dst_block;
          wgt_block += loop.wgt_block;
          dst_row = dst_block;
          wgt_row = wgt_block;
          src_row = InpIndex(loop.src_base);
          parameter += 1;
        } else {
          dst_row += loop.dst_row;
          src_row += loop.src_row;
          wgt_row += loop.wgt_row;
        }
        dst_col = dst_row;
        src_col = src_row;
        wgt_col = wgt_row;
      } else {
        dst_col += loop.dst_col;
        src_col += loop.src_col;
        wgt_col += loop.wgt_col;
      }
    }
  }
}

inline int32_t alu_lane(uint32_t op, int32_t left, int32_t right) {
#pragma HLS inline
  if (op == ALU_MIN) return left < right ? left : right;
  if (op == ALU_MAX) return left > right ? left : right;
  if (op == ALU_ADD) return add(left, right);
  const int32_t shift = static_cast<int32_t>(Signed<VTA_SHIFT_BITS + 1>(right));  // as published hardware takes it
  return shift >= 0 ? left >> shift : static_cast<int32_t>(static_cast<uint32_t>(left) << -shift);
}

inline void alu(const Instruction& instruction, const uint32_t (&uop)[UOP_DEPTH], Vector32 (&acc)[ACC_DEPTH],
                Vector8 (&out)[ACC_DEPTH]) {
#pragma HLS inline
  const uint32_t uop_bgn = get<VTA_ALU_UOP_BGN>(instruction);
  const uint32_t uop_end = get<VTA_ALU_UOP_END>(instruction);
  const uint32_t iter_out = get<VTA_ALU_ITER_OUT>(instruction);
  const uint32_t iter_in = get<VTA_ALU_ITER_IN>(instruction);
  const uint32_t dst_out = get<VTA_ALU_DST_OUT>(instruction);
  const uint32_t dst_in = get<VTA_ALU_DST_IN>(instruction);
  const uint32_t src_out = get<VTA_ALU_SRC_OUT>(instruction);
  const uint32_t src_in = get<VTA_ALU_SRC_IN>(instruction);
  const uint32_t op = get<VTA_ALU_OP>(instruction);
  const bool use_imm = get<VTA_ALU_USE_IMM>(instruction) != 0;
  const int32_t imm = static_cast<int16_t>(get<VTA_ALU_IMM>(instruction));
  const uint32_t uops = uop_end > uop_bgn ? uop_end - uop_bgn : 0;
  uint32_t u = 0, x = 0;
  AccIndex dst_y(0), dst_x(0), src_y(0), src_x(0);
  for (uint32_t step = 0; step < iter_out * iter_in * uops; ++step) {
#pragma HLS pipeline II=2  // two reads and a write of the accumulators, which have two ports
#pragma HLS dependence variable=acc type=inter false  // a program keeps 8 steps between uses of an accumulator
#pragma HLS dependence variable=out type=inter false  // only written here
    const uint32_t micro_op = uop[UopIndex(uop_bgn + u)];
    const AccIndex dst(dst_x + uop_dst(micro_op));
    const AccIndex src(src_x + uop_src(micro_op));
    const Vector32 left = acc[dst];
    const Vector32 right = acc[src];
    Vector32 result;
    Vector8 byte;
    for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
      result.lane[i] = alu_lane(op, left.lane[i], use_imm ? imm : right.lane[i]);
      byte.lane[i] = static_cast<int8_t>(result.lane[i]);
    }
    acc[dst] = result;
    out[dst] = byte;
    if (++u == uops) {
      u = 0;
      if (++x == iter_in) {
        x = 0;
        dst_y += dst_out;
        src_y += src_out;
        dst_x = dst_y;
        src_x = src_y;
      } else {
        dst_x += dst_in;
        src_x += src_in;
      }
    }
  }
}

inline void xadd(const Instruction& instruction, const Vector8 (&inp)[INP_DEPTH], const Parameter (&par)[PAR_DEPTH],
                 Vector8 (&out)[ACC_DEPTH]) {
#pragma HLS inline
  const uint32_t blocks = get<VTA_XADD_BLOCKS>(instruction);
  const uint32_t count = get<VTA_XADD_COUNT>(instruction);
  const bool low = get<VTA_XADD_LOW>(instruction) != 0;
  InpIndex a(get<VTA_XADD_A_BASE>(instruction)), b(get<VTA_XADD_B_BASE>(instruction));
  AccIndex dst(get<VTA_XADD_DST_BASE>(instruction));
  ParIndex parameter(get<VTA_XADD_PAR>(instruction));
  uint32_t i = 0;
  for (uint32_t step = 0; step < blocks * count; ++step) {
#pragma HLS pipeline II=2  // two reads of the input memory, whose other port belongs to load
#pragma HLS dependence variable=out type=inter false  // only written here
    const Vector8 left = inp[a];
    const Vector8 right = inp[b];
    const Parameter left_scale = par[parameter];
    const Parameter right_scale = par[ParIndex(parameter + 1)];
    Vector8 result;
    for (int lane = 0; lane < BLOCK; ++lane) {
#pragma HLS unroll
      const int32_t left_value = add(left.lane[lane], left_scale.bias[lane]) >> left_scale.shift[lane];
      const int32_t right_value = add(right.lane[lane], right_scale.bias[lane]) >> right_scale.shift[lane];
      result.lane[lane] = narrow(static_cast<int64_t>(left_value) + right_value, low);
    }
    out[dst] = result;
    a += 1;
    b += 1;
    dst += 1;
    if (++i == count) {
      i = 0;
      parameter += 2;
    }
  }
}

// Micro-ops are narrower than a beat and may begin inside of one.
inline void load_uops(const Transfer& transfer, Port port, uint64_t base, uint32_t (&uop)[UOP_DEPTH]) {
#pragma HLS inline
  constexpr uint32_t PER_BEAT = VTA_BUS_BYTES / 4;
  const uint64_t first = base / 4 + transfer.dram;
  const uint32_t skip = static_cast<uint32_t>(first % PER_BEAT);
  const uint32_t beats = (skip + transfer.size + PER_BEAT - 1) / PER_BEAT;
  if (transfer.size > 0) port.read_request(first / PER_BEAT, beats);
  for (uint32_t i = 0; transfer.size > 0 && i < beats; ++i) {
#pragma HLS pipeline  // as fast as the ports of the memory allow: a beat holds more than one micro-op
    const Beat data = port.read();
    for (uint32_t j = 0; j < PER_BEAT; ++j) {
#pragma HLS unroll
      uint8_t bytes[4];
      for (uint32_t k = 0; k < 4; ++k) {
#pragma HLS unroll
        bytes[k] = beat_byte(data, static_cast<int>(4 * j + k));
      }
      const uint32_t at = i * PER_BEAT + j;
      if (at >= skip && at - skip < transfer.size) {
        uop[UopIndex(transfer.sram + at - skip)] = static_cast<uint32_t>(little_endian(bytes, 0));
      }
    }
  }
}

inline void compute_instruction(const Instruction& instruction, Port port, const ComputeBases& bases,
                                uint32_t (&uop)[UOP_DEPTH], Vector32 (&acc)[ACC_DEPTH], const Vector8 (&inp)[INP_DEPTH],
                                const Vector8 (&wgt)[WGT_DEPTH][BLOCK], const Parameter (&par)[PAR_DEPTH],
                                Vector8 (&out)[ACC_DEPTH]) {
#pragma HLS inline
  const uint32_t code = opcode(instruction);
  switch (code) {
    case LOAD:
      if (get<VTA_LOAD_MEMORY>(instruction) == UOP) {
        load_uops(load_transfer(instruction), port, bases.uop, uop);
      } else {
        load_padded<VECTOR32_BYTES, AccIndex, Vector32>(port, bases.acc, load_transfer(instruction), acc);
      }
      break;
    case STORE: {
      uint32_t pending = 0;
      store_rows<VECTOR32_BYTES, AccIndex>(port, bases.acc, store_transfer(instruction), acc, pending);
      await_writes(port, pending);
      break;
    }
    case GEMM:
    case XGEMM: {
      const GemmLoop loop = code == XGEMM ? xgemm_loop(instruction) : gemm_loop(instruction);
      gemm(loop, uop, acc, inp, wgt, par, out);
      break;
    }
    case ALU: alu(instruction, uop, acc, out); break;
    case XADD: xadd(instruction, inp, par, out); break;
    default: break;  // FINISH: only its tokens
  }
}

inline void compute(Port port, uint64_t uop_base, uint64_t acc_base, CommandQueue& queue, TokenQueue& from_load,
                    TokenQueue& from_store, TokenQueue& to_load, TokenQueue& to_store, const Vector8 (&inp)[INP_DEPTH],
                    const Vector8 (&wgt)[WGT_DEPTH][BLOCK], const Parameter (&par)[PAR_DEPTH],
                    Vector8 (&out)[ACC_DEPTH]) {
  const ComputeBases bases = {uop_base, acc_base};
  uint32_t uop[UOP_DEPTH];
  Vector32 acc[ACC_DEPTH];
#pragma HLS aggregate variable=acc  // one wide word per element: all lanes in one access
#pragma HLS bind_storage variable=uop type=ram_2p impl=bram
#pragma HLS bind_storage variable=acc type=ram_t2p impl=bram  // a read and a write per cycle (GEMM), two reads (ALU)
  for (Command command = queue.read(); !command.stop; command = queue.read()) {
    const Instruction& instruction = command.instruction;
    if (pops_previous(instruction)) from_load.read();
    if (pops_next(instruction)) from_store.read();
    compute_instruction(instruction, port, bases, uop, acc, inp, wgt, par, out);
    if (pushes_previous(instruction)) to_load.write(true);
    if (pushes_next(instruction)) to_store.write(true);
  }
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_COMPUTE_H
