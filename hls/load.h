// Load: inputs, weights and parameters from DRAM.
#ifndef SQUEEZEEDGE_VTA_LOAD_H
#define SQUEEZEEDGE_VTA_LOAD_H

#include "fetch.h"
#include "transfer.h"

namespace vta {

// Tokens that a queue between two processes holds.
constexpr int TOKEN_DEPTH = 128;

using TokenQueue = Stream<bool, TOKEN_DEPTH>;

struct LoadBases {
  uint64_t inp;
  uint64_t wgt;
  uint64_t par;
};

// A transfer of weight elements, counted in their vectors.
inline Transfer by_vectors(const Transfer& transfer) {
#pragma HLS inline
  Transfer vectors = transfer;
  vectors.sram *= BLOCK;
  vectors.dram *= BLOCK;
  vectors.size *= BLOCK;
  vectors.stride *= BLOCK;
  return vectors;
}

inline void load_instruction(const Instruction& instruction, Port port, const LoadBases& bases,
                             Vector8 (&inp)[INP_DEPTH], Vector8 (&wgt)[WGT_DEPTH][BLOCK], Parameter (&par)[PAR_DEPTH]) {
#pragma HLS inline
  const Transfer transfer = load_transfer(instruction);
  switch (get<VTA_LOAD_MEMORY>(instruction)) {
    case INP: load_padded<VECTOR8_BYTES, InpIndex, Vector8>(port, bases.inp, transfer, inp); break;
    case WGT: load_rows<VECTOR8_BYTES, WgtRowIndex, Vector8>(port, bases.wgt, by_vectors(transfer), wgt); break;
    case PAR: load_rows<PARAMETER_BYTES, ParIndex, Parameter>(port, bases.par, transfer, par); break;
    default: break;
  }
}

inline void load(Port port, uint64_t inp_base, uint64_t wgt_base, uint64_t par_base, CommandQueue& queue,
                 TokenQueue& from_compute, TokenQueue& to_compute, Vector8 (&inp)[INP_DEPTH],
                 Vector8 (&wgt)[WGT_DEPTH][BLOCK], Parameter (&par)[PAR_DEPTH]) {
  const LoadBases bases = {inp_base, wgt_base, par_base};
  for (Command command = queue.read(); !command.stop; command = queue.read()) {
    const Instruction& instruction = command.instruction;
    if (pops_next(instruction)) from_compute.read();
    load_instruction(instruction, port, bases, inp, wgt, par);
    if (pushes_next(instruction)) to_compute.write(true);
  }
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_LOAD_H
