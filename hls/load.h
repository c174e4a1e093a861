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

inline void load_instruction(const Instruction& instruction, Port port, const LoadBases& bases,
                             Vector8 (&inp)[INP_DEPTH], Matrix8 (&wgt)[WGT_DEPTH], Parameter (&par)[PAR_DEPTH]) {
#pragma HLS inline
  const Transfer transfer = load_transfer(instruction);
  switch (get<VTA_LOAD_MEMORY>(instruction)) {
    case INP: load_padded<VECTOR8_BYTES, InpIndex>(port, bases.inp, transfer, inp); break;
    case WGT: load_rows<MATRIX8_BYTES, WgtIndex>(port, bases.wgt, transfer, wgt); break;
    case PAR: load_rows<PARAMETER_BYTES, ParIndex>(port, bases.par, transfer, par); break;
    default: break;
  }
}

inline void load(Port port, LoadBases bases, CommandQueue& queue, TokenQueue& from_compute, TokenQueue& to_compute,
                 Vector8 (&inp)[INP_DEPTH], Matrix8 (&wgt)[WGT_DEPTH], Parameter (&par)[PAR_DEPTH]) {
  for (Command command = queue.read(); !command.stop; command = queue.read()) {
    const Instruction& instruction = command.instruction;
    if (pops_next(instruction)) from_compute.read();
    load_instruction(instruction, port, bases, inp, wgt, par);
    if (pushes_next(instruction)) to_compute.write(true);
  }
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_LOAD_H
