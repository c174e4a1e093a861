// Instructions as the hardware sees them. The positions of all fields come from vta_config.h, which is generated from
// the Python classes that define the instruction set.
#ifndef SQUEEZEEDGE_VTA_ISA_H
#define SQUEEZEEDGE_VTA_ISA_H

#include "types.h"

namespace vta {

constexpr int BLOCK = VTA_BLOCK;
constexpr int UOP_DEPTH = 1 << VTA_UOP_BITS;
constexpr int INP_DEPTH = 1 << VTA_INP_BITS;
constexpr int WGT_DEPTH = 1 << VTA_WGT_BITS;
constexpr int ACC_DEPTH = 1 << VTA_ACC_BITS;
constexpr int PAR_DEPTH = 1 << VTA_PAR_BITS;

using UopIndex = Unsigned<VTA_UOP_BITS>;
using InpIndex = Unsigned<VTA_INP_BITS>;
using WgtIndex = Unsigned<VTA_WGT_BITS>;
using AccIndex = Unsigned<VTA_ACC_BITS>;
using WgtRowIndex = Unsigned<VTA_WGT_BITS + (VTA_BLOCK == 32 ? 5 : 4)>;  // element * BLOCK + output channel
using ParIndex = Unsigned<VTA_PAR_BITS>;

enum Opcode : uint32_t { LOAD = 0, STORE = 1, GEMM = 2, FINISH = 3, ALU = 4, XGEMM = 5, XPOOL = 6, XADD = 7 };
enum Memory : uint32_t { UOP = 0, WGT = 1, INP = 2, ACC = 3, OUT = 4, PAR = 6 };
enum AluOp : uint32_t { ALU_MIN = 0, ALU_MAX = 1, ALU_ADD = 2, ALU_SHR = 3 };
enum Epilogue : uint32_t { TO_ACC = 0, TO_OUT = 1, TO_SUM = 2 };

// One element of a memory: inputs and outputs, accumulators, parameters. A weight element is BLOCK vectors, one for
// each output channel; they lie in memories of their own, which all are read in the same cycle.
struct Vector8 {
  int8_t lane[BLOCK];
};
struct Vector32 {
  int32_t lane[BLOCK];
};
struct Parameter {
  int32_t bias[BLOCK];
  uint8_t shift[BLOCK];  // 0..SHIFT_MASK
};

constexpr uint8_t SHIFT_MASK = (1 << VTA_SHIFT_BITS) - 1;
constexpr int32_t LOWEST = -VTA_SIGN;  // q = 0 in signed storage (R7)

struct Instruction {
  uint64_t word[2];
};

// What travels in an instruction queue.
struct Command {
  Instruction instruction;
  bool stop;  // the program has ended; there is no instruction
};

template <int WORD, int LOW, int WIDTH>
uint32_t get(const Instruction& instruction) {
#pragma HLS inline
  return static_cast<uint32_t>((instruction.word[WORD] >> LOW) & ((uint64_t{1} << WIDTH) - 1));
}

inline uint32_t opcode(const Instruction& instruction) { return get<0, 0, 3>(instruction); }
inline bool pops_previous(const Instruction& instruction) { return get<0, 3, 1>(instruction) != 0; }
inline bool pops_next(const Instruction& instruction) { return get<0, 4, 1>(instruction) != 0; }
inline bool pushes_previous(const Instruction& instruction) { return get<0, 5, 1>(instruction) != 0; }
inline bool pushes_next(const Instruction& instruction) { return get<0, 6, 1>(instruction) != 0; }

enum Queue : uint32_t { LOAD_QUEUE, COMPUTE_QUEUE, STORE_QUEUE };

// Which process executes an instruction.
inline Queue queue_of(const Instruction& instruction) {
#pragma HLS inline
  const uint32_t code = opcode(instruction);
  const uint32_t memory = get<VTA_LOAD_MEMORY>(instruction);
  if (code == LOAD && memory != UOP && memory != ACC) return LOAD_QUEUE;
  if (code == XPOOL || (code == STORE && memory != ACC)) return STORE_QUEUE;
  return COMPUTE_QUEUE;
}

// A row-wise copy between DRAM and a memory: what LOAD and STORE have in common.
struct Transfer {
  uint32_t sram;
  uint64_t dram;  // in elements; more than 32 bits once it counts vectors of weights
  uint32_t rows;
  uint32_t size;
  uint32_t stride;
  uint32_t top, bottom, left, right;  // padding
  bool low;                           // pad with LOWEST
};

inline Transfer load_transfer(const Instruction& instruction) {
#pragma HLS inline
  Transfer transfer;
  transfer.sram = get<VTA_LOAD_SRAM_BASE>(instruction);
  transfer.dram = get<VTA_LOAD_DRAM_BASE>(instruction);
  transfer.rows = get<VTA_LOAD_Y_SIZE>(instruction);
  transfer.size = get<VTA_LOAD_X_SIZE>(instruction);
  transfer.stride = get<VTA_LOAD_X_STRIDE>(instruction);
  transfer.top = get<VTA_LOAD_Y_PAD_0>(instruction);
  transfer.bottom = get<VTA_LOAD_Y_PAD_1>(instruction);
  transfer.left = get<VTA_LOAD_X_PAD_0>(instruction);
  transfer.right = get<VTA_LOAD_X_PAD_1>(instruction);
  transfer.low = get<VTA_LOAD_PAD_LOW>(instruction) != 0;
  return transfer;
}

inline Transfer store_transfer(const Instruction& instruction) {
#pragma HLS inline
  Transfer transfer;
  transfer.sram = get<VTA_STORE_SRAM_BASE>(instruction);
  transfer.dram = get<VTA_STORE_DRAM_BASE>(instruction);
  transfer.rows = get<VTA_STORE_Y_SIZE>(instruction);
  transfer.size = get<VTA_STORE_X_SIZE>(instruction);
  transfer.stride = get<VTA_STORE_X_STRIDE>(instruction);
  transfer.top = transfer.bottom = transfer.left = transfer.right = 0;
  transfer.low = false;
  return transfer;
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_ISA_H
