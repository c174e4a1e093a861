// The cycle model: what an instruction costs, and when the bus carries it.
//
// Assumptions, all per instruction and not per cycle:
// - compute: one GEMM micro-op per cycle, one ALU or XADD step per two cycles, plus the depth of the pipeline;
// - DRAM: one bus that carries bytes_per_cycle, reads and writes together; a burst of 64 beats holds it, the processes
//   that wait are served in turn (the longest not served first);
// - the first data of a read comes a latency after its request; rows are requested ROWS_AHEAD ahead;
// - a write burst goes out when its data is complete; a latency later it is confirmed, which only a store that gives
//   a token waits for.
// Not modelled: row misses and refresh of the DRAM, other traffic.
#ifndef SQUEEZEEDGE_VTA_TIMING_H
#define SQUEEZEEDGE_VTA_TIMING_H

#include <algorithm>
#include <cstdint>

#include "../compute.h"
#include "../store.h"

namespace vta {

constexpr uint64_t DECODE_CYCLES = 4;  // command and tokens
constexpr uint64_t GEMM_DEPTH = 16;    // micro-op, operands, multiplication, adder tree, accumulation, epilogue, write
constexpr uint64_t ALU_DEPTH = 8;      // micro-op, operands, operation, write
constexpr uint64_t ROW_CYCLES = 4;     // fill and drain of the loop over a row
constexpr uint64_t BURST_BYTES = 64 * VTA_BUS_BYTES;

// As many cycles as a program of so many instructions may take, unless its user says otherwise. An instruction works on
// what the memories hold: one may use every accumulator with every weight, as the verifier allows, and all of them
// together 64 cycles for each element of accumulators and inputs. Real programs take less than a hundredth of that.
inline uint64_t most_cycles(uint64_t instructions) {
  const uint64_t acc = ACC_DEPTH, inp = INP_DEPTH, wgt = WGT_DEPTH;
  return 2 * acc * wgt + instructions * 64 * (acc + inp);
}

inline uint64_t divide_up(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

struct Timing {
  uint64_t bytes_per_cycle;
  uint64_t latency;
};

// What one instruction costs: cycles of its own and rows that cross the bus.
struct Cost {
  uint64_t cycles = 0;  // before the first row, or all of it without rows
  uint64_t tail = 0;    // after the last row
  uint64_t rows = 0;
  uint64_t row_bytes = 0;
  uint64_t row_cycles = 0;  // writes: until the row's data is complete
  uint64_t row_gap = 0;
  uint64_t rate = VTA_BUS_BYTES;  // bytes per cycle that the process takes
  uint64_t steps = 0;             // multiply-accumulates of the whole array
  bool write = false;
  bool confirm = false;  // waits until its writes are confirmed
};

// Cycles that it takes at least, with tokens, bus and data there.
inline uint64_t least_cycles(const Cost& cost) {
  const uint64_t rows = cost.rows * (cost.write ? cost.row_cycles : divide_up(cost.row_bytes, BURST_BYTES));
  return cost.cycles + rows + cost.tail;
}

inline Cost transfer_cost(const Transfer& transfer, uint64_t element_bytes, bool write) {
  Cost cost;
  const uint64_t width = transfer.left + transfer.size + transfer.right;
  cost.cycles = DECODE_CYCLES + transfer.top * width;
  cost.tail = transfer.bottom * width;
  cost.rows = transfer.size > 0 ? transfer.rows : 0;
  if (cost.rows == 0) cost.cycles += transfer.rows * width;
  cost.row_bytes = transfer.size * element_bytes;
  cost.row_cycles = divide_up(cost.row_bytes, VTA_BUS_BYTES);
  cost.row_gap = ROW_CYCLES + transfer.left + transfer.right;
  cost.write = write;
  return cost;
}

inline Cost pool_cost(const Instruction& instruction) {
  const uint64_t x_size = get<VTA_XPOOL_X_SIZE>(instruction);
  const uint64_t beats = VECTOR8_BYTES / VTA_BUS_BYTES;
  const uint64_t taps = std::max<uint64_t>(get<VTA_XPOOL_KERNEL_H>(instruction), beats);
  Cost cost;
  cost.cycles = DECODE_CYCLES;
  cost.rows = x_size > 0 ? get<VTA_XPOOL_Y_SIZE>(instruction) : 0;
  cost.row_bytes = x_size * VECTOR8_BYTES;
  cost.row_cycles =
      x_size > 0 ? taps * ((x_size - 1) * get<VTA_XPOOL_STRIDE_W>(instruction) + get<VTA_XPOOL_KERNEL_W>(instruction))
                 : 0;
  cost.row_gap = ROW_CYCLES + beats;
  cost.write = true;
  return cost;
}

inline Cost cost_of(const Instruction& instruction) {
  Cost cost;
  cost.cycles = DECODE_CYCLES;
  switch (opcode(instruction)) {
    case LOAD: {
      const uint32_t memory = get<VTA_LOAD_MEMORY>(instruction);
      const uint64_t bytes = memory == UOP   ? 4
                             : memory == INP ? VECTOR8_BYTES
                             : memory == WGT ? BLOCK * VECTOR8_BYTES
                             : memory == ACC ? VECTOR32_BYTES
                                             : PARAMETER_BYTES;
      cost = transfer_cost(load_transfer(instruction), bytes, false);
      if (memory == UOP) cost.rate = 4;  // one micro-op per cycle into its memory
      break;
    }
    case STORE: {
      const bool wide = get<VTA_STORE_MEMORY>(instruction) == ACC;
      cost = transfer_cost(store_transfer(instruction), wide ? VECTOR32_BYTES : VECTOR8_BYTES, true);
      cost.confirm = wide || pushes_previous(instruction);
      break;
    }
    case XPOOL:
      cost = pool_cost(instruction);
      cost.confirm = pushes_previous(instruction);
      break;
    case GEMM:
    case XGEMM: {
      const GemmLoop loop = opcode(instruction) == XGEMM ? xgemm_loop(instruction) : gemm_loop(instruction);
      const uint64_t steps = static_cast<uint64_t>(loop.blocks) * loop.rows * loop.cols * loop.uops;
      cost.cycles += steps + GEMM_DEPTH;
      cost.steps = loop.reset ? 0 : steps;
      break;
    }
    case ALU: {
      const uint32_t uop_bgn = get<VTA_ALU_UOP_BGN>(instruction);
      const uint32_t uop_end = get<VTA_ALU_UOP_END>(instruction);
      const uint64_t uops = uop_end > uop_bgn ? uop_end - uop_bgn : 0;
      const uint64_t loops =
          static_cast<uint64_t>(get<VTA_ALU_ITER_OUT>(instruction)) * get<VTA_ALU_ITER_IN>(instruction);
      cost.cycles += 2 * loops * uops + ALU_DEPTH;
      break;
    }
    case XADD:
      cost.cycles += 2ULL * get<VTA_XADD_BLOCKS>(instruction) * get<VTA_XADD_COUNT>(instruction) + ALU_DEPTH;
      break;
    default: break;
  }
  return cost;
}

// The bus: serves one burst at a time.
struct Bus {
  uint64_t free_at = 0;
  uint64_t busy = 0;
  uint64_t turns = 0;
};

// The rows of one instruction on their way over the bus, burst by burst.
class RowTransfer {
 public:
  bool active() const { return active_; }
  uint64_t ready() const { return ready_; }  // when the next burst could cross a free bus

  void begin(const Cost& cost, const Timing& timing, uint64_t start) {
    cost_ = cost;
    timing_ = timing;
    active_ = true;
    row_ = sent_ = 0;
    row_begin_ = start + cost.cycles;
    for (uint64_t& begin : begins_) begin = row_begin_;
    end_ = row_begin_;
    ready_ = next_ready();
  }

  // Moves one burst at a time not before ready().
  void advance(Bus& bus, uint64_t now) {
    const uint64_t bytes = next_bytes();
    bus.free_at = now + divide_up(bytes, timing_.bytes_per_cycle);
    bus.busy += bus.free_at - now;
    if (sent_ == 0) begins_[row_ % ROWS_AHEAD] = now;
    sent_ += bytes;
    end_ = now + divide_up(bytes, std::min(cost_.rate, timing_.bytes_per_cycle));
    if (sent_ == cost_.row_bytes) {
      sent_ = 0;
      ++row_;
      row_begin_ = cost_.write ? row_begin_ + cost_.row_cycles + cost_.row_gap : end_ + cost_.row_gap;
    }
    active_ = row_ < cost_.rows;
    if (active_) ready_ = next_ready();
  }

  // When the instruction has ended, and when its writes are confirmed.
  uint64_t end() const { return cost_.confirm ? confirmed() : end_ + cost_.tail; }
  uint64_t confirmed() const { return end_ + (cost_.write ? timing_.latency : 0); }

 private:
  uint64_t next_bytes() const { return std::min(BURST_BYTES, cost_.row_bytes - sent_); }

  uint64_t next_ready() const {
    if (cost_.write) {
      return std::max(end_, row_begin_ + divide_up(cost_.row_cycles * (sent_ + next_bytes()), cost_.row_bytes));
    }
    if (sent_ > 0) return end_;
    return std::max(row_begin_, begins_[row_ % ROWS_AHEAD] + timing_.latency);  // requested with that row
  }

  Cost cost_;
  Timing timing_ = {1, 0};
  bool active_ = false;
  uint64_t row_ = 0, sent_ = 0;  // rows, and bytes of the row, that are through
  uint64_t row_begin_ = 0, end_ = 0, ready_ = 0;
  uint64_t begins_[ROWS_AHEAD] = {};
};

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_TIMING_H
