// Which instructions the hardware defines: the simulator refuses the others.
#ifndef SQUEEZEEDGE_VTA_LEGAL_H
#define SQUEEZEEDGE_VTA_LEGAL_H

#include <cstdint>

#include "timing.h"

namespace vta {

constexpr uint64_t MOST_CYCLES = uint64_t{1} << 32;  // the loop counters have 32 bits

// Whether the fields are defined, and no instruction covers more than the memory it works on.
inline bool legal(const Instruction& instruction) {
  switch (opcode(instruction)) {
    case LOAD: {
      const Transfer t = load_transfer(instruction);
      const uint64_t size = uint64_t{t.top + t.rows + t.bottom} * (t.left + t.size + t.right);
      switch (get<VTA_LOAD_MEMORY>(instruction)) {
        case UOP: return t.rows == 1 && size <= UOP_DEPTH;
        case WGT: return size <= WGT_DEPTH;
        case INP: return size <= INP_DEPTH;
        case ACC: return size <= ACC_DEPTH;
        case PAR: return size <= PAR_DEPTH;
        default: return false;
      }
    }
    case STORE: {
      const Transfer t = store_transfer(instruction);
      const uint32_t memory = get<VTA_STORE_MEMORY>(instruction);
      return (memory == OUT || memory == ACC) && uint64_t{t.rows} * t.size <= ACC_DEPTH;
    }
    case GEMM: return cost_of(instruction).cycles < MOST_CYCLES;
    case ALU: return get<VTA_ALU_OP>(instruction) <= ALU_SHR && cost_of(instruction).cycles < MOST_CYCLES;
    case XGEMM:
      return get<VTA_XGEMM_UOPS>(instruction) > 0 && get<VTA_XGEMM_EPILOGUE>(instruction) <= TO_SUM &&
             get<VTA_XGEMM_ROWS>(instruction) * get<VTA_XGEMM_COLS>(instruction) <= ACC_DEPTH;
    case XPOOL:
      return get<VTA_XPOOL_KERNEL_H>(instruction) > 0 && get<VTA_XPOOL_KERNEL_W>(instruction) > 0 &&
             get<VTA_XPOOL_STRIDE_H>(instruction) > 0 && get<VTA_XPOOL_STRIDE_W>(instruction) > 0 &&
             get<VTA_XPOOL_ROWS>(instruction) * get<VTA_XPOOL_COLS>(instruction) <= ACC_DEPTH;
    case XADD: return get<VTA_XADD_BLOCKS>(instruction) * get<VTA_XADD_COUNT>(instruction) <= INP_DEPTH;
    default: return true;
  }
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_LEGAL_H
