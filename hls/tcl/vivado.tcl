# Vivado: processing system, accelerator and what connects them; bitstream, hardware hand-off and platform out.
#
#   vivado -mode batch -source vivado.tcl
#
# Runs in a folder with settings.tcl (squeezeedge.targets.vta.board.bitstream writes it), after hls.tcl. Results: vta.bit,
# vta.hwh and vta.xsa in the folder results.
source settings.tcl

create_project -force -part $part vta vivado

# The board's files carry the DRAM and clock settings of its processing system; their version and, for the Ultra96-V2,
# their publisher changed over the years.
set boards [get_board_parts -quiet -latest_file_version $board_part]
if {[llength $boards] == 0} {
  error "Vivado has no board files for $board_part: install them (Tools > Vivado Store > Boards)"
}
set_property board_part [lindex $boards 0] [current_project]
set_property ip_repo_paths [file normalize hls/solution/impl/ip] [current_project]
update_ip_catalog

create_bd_design system
create_bd_cell -type ip -vlnv squeezeedge:hls:$top:$version vta

# One high-performance port for each of the accelerator's masters, so that none waits for another. These ports do not
# look into the caches: the driver flushes and invalidates.
if {[string match xc7z* $part]} {
  create_bd_cell -type ip -vlnv xilinx.com:ip:processing_system7 ps
  apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
    -config {make_external "FIXED_IO, DDR" apply_board_preset "1" Master "Disable" Slave "Disable"} [get_bd_cells ps]
  set properties [list \
    CONFIG.PCW_EN_CLK0_PORT 1 CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz CONFIG.PCW_EN_RST0_PORT 1 \
    CONFIG.PCW_USE_M_AXI_GP0 1]
  foreach port {0 1 2 3} {
    lappend properties CONFIG.PCW_USE_S_AXI_HP$port 1 CONFIG.PCW_S_AXI_HP${port}_DATA_WIDTH 64
    lappend memory_ports S_AXI_HP$port
    lappend memory_clocks S_AXI_HP${port}_ACLK
  }
  set clock FCLK_CLK0
  set reset FCLK_RESET0_N
  set control_port M_AXI_GP0
  set control_clock M_AXI_GP0_ACLK
} else {
  create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps
  apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset "1"} [get_bd_cells ps]
  set properties [list \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0]
  foreach port {0 1 2 3} {
    # The configuration counts the coherent ports HPC0 and HPC1 as slaves 0 and 1, and HP0 as slave 2.
    set slave [expr {$port + 2}]
    lappend properties CONFIG.PSU__USE__S_AXI_GP$slave 1 CONFIG.PSU__SAXIGP${slave}__DATA_WIDTH [expr {8 * $bus_bytes}]
    lappend memory_ports S_AXI_HP${port}_FPD
    lappend memory_clocks saxihp${port}_fpd_aclk
  }
  set clock pl_clk0
  set reset pl_resetn0
  set control_port M_AXI_HPM0_FPD
  set control_clock maxihpm0_fpd_aclk
}
set_property -dict $properties [get_bd_cells ps]

create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset resets
connect_bd_net [get_bd_pins ps/$reset] [get_bd_pins resets/ext_reset_in]

# Connects a master with a slave; the SmartConnect between them converts protocol and width.
proc bridge {name master slave} {
  create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect $name
  set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] [get_bd_cells $name]
  connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $name/S00_AXI]
  connect_bd_intf_net [get_bd_intf_pins $name/M00_AXI] [get_bd_intf_pins $slave]
}
bridge control ps/$control_port vta/s_axi_control
set clocked [list resets/slowest_sync_clk vta/ap_clk control/aclk ps/$control_clock]
set resetted [list vta/ap_rst_n control/aresetn]
foreach master $masters memory_port $memory_ports memory_clock $memory_clocks {
  bridge memory_$master vta/m_axi_$master ps/$memory_port
  lappend clocked memory_$master/aclk ps/$memory_clock
  lappend resetted memory_$master/aresetn
}
foreach pin $clocked {
  connect_bd_net [get_bd_pins ps/$clock] [get_bd_pins $pin]
}
foreach pin $resetted {
  connect_bd_net [get_bd_pins resets/peripheral_aresetn] [get_bd_pins $pin]
}
assign_bd_address
validate_bd_design
save_bd_design

make_wrapper -files [get_files system.bd] -top -import
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1
launch_runs impl_1 -to_step write_bitstream -jobs $jobs
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
  error "implementation stopped at [get_property PROGRESS [get_runs impl_1]]: [get_property STATUS [get_runs impl_1]]"
}
set slack [get_property STATS.WNS [get_runs impl_1]]
if {$slack < 0} {
  error "$clock_mhz MHz are too fast: the longest path is [expr {-$slack}] ns too long; choose a lower clock"
}
if {[get_property STATS.WHS [get_runs impl_1]] < 0} {
  error "hold time violated by [get_property STATS.WHS [get_runs impl_1]] ns"
}

file mkdir results
file copy -force [get_property DIRECTORY [get_runs impl_1]]/system_wrapper.bit results/vta.bit
# vta.gen since Vivado 2020.2, vta.srcs before.
set handoff [glob vivado/vta.{gen,srcs}/sources_1/bd/system/hw_handoff/system.hwh]
file copy -force [lindex $handoff 0] results/vta.hwh
write_hw_platform -fixed -include_bit -force -file results/vta.xsa
puts "Bitstream: slack $slack ns at $clock_mhz MHz"
