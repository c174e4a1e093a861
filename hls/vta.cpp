// The accelerator: fetch, load, compute and store as dataflow processes around the on-chip memories.
//
// The processes share the memories without synchronization by the tool; the program's tokens order all accesses.
#include "compute.h"
#include "fetch.h"
#include "load.h"
#include "store.h"

// Registers of the control port (AXI-lite), as placed by the offsets below. Control and status are at 0x00 (bit 0
// start, bit 1 done, bit 2 idle). All bases are byte addresses.
extern "C" void squeezeedge_vta(uint32_t count, uint64_t program, uint64_t uop_base, uint64_t inp_base,
                                uint64_t wgt_base, uint64_t acc_base, uint64_t out_base, uint64_t par_base,
                                vta::Port fetch_port, vta::Port load_port, vta::Port compute_port,
                                vta::Port store_port) {
#pragma HLS interface s_axilite port=return bundle=control
#pragma HLS interface s_axilite port=count bundle=control offset=0x10
#pragma HLS interface s_axilite port=program bundle=control offset=0x20
#pragma HLS interface s_axilite port=uop_base bundle=control offset=0x30
#pragma HLS interface s_axilite port=inp_base bundle=control offset=0x40
#pragma HLS interface s_axilite port=wgt_base bundle=control offset=0x50
#pragma HLS interface s_axilite port=acc_base bundle=control offset=0x60
#pragma HLS interface s_axilite port=out_base bundle=control offset=0x70
#pragma HLS interface s_axilite port=par_base bundle=control offset=0x80
// One master per process, so none waits for another inside the core. Bursts of 64 beats and 8 of them in flight: the
// read buffer of the adapter is one block RAM. offset=off: addresses come from the base registers.
#pragma HLS interface m_axi port=fetch_port bundle=fetch offset=off max_read_burst_length=64 num_read_outstanding=2
#pragma HLS interface m_axi port=load_port bundle=load offset=off max_read_burst_length=64 num_read_outstanding=8
#pragma HLS interface m_axi port=compute_port bundle=compute offset=off max_read_burst_length=64 num_read_outstanding=8 max_write_burst_length=64 num_write_outstanding=8
#pragma HLS interface m_axi port=store_port bundle=store offset=off max_write_burst_length=64 num_write_outstanding=8
#pragma HLS dataflow  // the processes run at the same time
  vta::CommandQueue load_queue, compute_queue, store_queue;
  vta::TokenQueue load_to_compute, compute_to_load, compute_to_store, store_to_compute;

  vta::Vector8 inp[vta::INP_DEPTH];
  vta::Vector8 wgt[vta::WGT_DEPTH][vta::BLOCK];
  vta::Parameter par[vta::PAR_DEPTH];
  vta::Vector8 out[vta::ACC_DEPTH];
// One wide word per element, and of the weights one per output channel; one writing and one reading process each.
#pragma HLS array_partition variable=wgt complete dim=2
#pragma HLS aggregate variable=inp
#pragma HLS aggregate variable=wgt
#pragma HLS aggregate variable=par
#pragma HLS aggregate variable=out
#pragma HLS bind_storage variable=inp type=ram_2p impl=bram
#pragma HLS bind_storage variable=wgt type=ram_2p impl=bram
#pragma HLS bind_storage variable=par type=ram_2p impl=lutram  // wide and shallow: block RAM would be almost empty
#pragma HLS bind_storage variable=out type=ram_2p impl=bram
// unsync: no ping-pong copies; the tokens keep readers and writers apart.
#pragma HLS stream variable=inp type=unsync
#pragma HLS stream variable=wgt type=unsync
#pragma HLS stream variable=par type=unsync
#pragma HLS stream variable=out type=unsync

  vta::fetch(fetch_port, count, program, load_queue, compute_queue, store_queue);
  vta::load(load_port, inp_base, wgt_base, par_base, load_queue, compute_to_load, load_to_compute, inp, wgt, par);
  vta::compute(compute_port, uop_base, acc_base, compute_queue, load_to_compute, store_to_compute, compute_to_load,
               compute_to_store, inp, wgt, par, out);
  vta::store(store_port, out_base, store_queue, compute_to_store, store_to_compute, out);
}
