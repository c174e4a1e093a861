# Vitis HLS: synthesizes the accelerator and exports it as an IP for Vivado.
#
#   vitis_hls -f hls.tcl        or, from 2024.2 on,        vitis-run --mode hls --tcl hls.tcl
#
# Runs in a folder with settings.tcl (squeezeedge.targets.vta.board.bitstream writes it). The IP lies in
# hls/solution/impl/ip. Any error ends the tool with exit code 1.
if {[catch {
  source settings.tcl

  open_project -reset hls
  set_top $top
  foreach source $sources {
    add_files $source -cflags "-std=c++14 -I$include_dir -I[pwd]"
  }
  open_solution -reset -flow_target vivado solution
  set_part $part
  create_clock -period [format %.3f [expr {1000.0 / $clock_mhz}]] -name default
  csynth_design
  export_design -format ip_catalog -rtl verilog -vendor squeezeedge -library hls -ipname $top -version $version
} message]} {
  puts "ERROR: hls.tcl: $message"
  exit 1
}
exit 0
