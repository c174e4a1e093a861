# Emulates the commands of Vitis HLS and Vivado that the scripts use: nothing is synthesized.
#
#   tclsh stubs.tcl SCRIPT RECORD MASTERS...
#
# Runs SCRIPT and appends every command to the file RECORD. What the tools would refuse is an error here too: unknown
# commands, options, parts, properties, cells and pins, missing files, pins connected twice or not at all.
# MASTERS: the accelerator's DRAM ports. Results are files that hold the word "emulated".
set argv [lassign $argv script record_file]
set MASTERS $argv

# Parts and board files as their vendors publish them.
set PARTS {xc7z020clg400-1 xczu3eg-sbva484-1-i xczu7ev-ffvc1156-2-e xck26-sfvc784-2LV-c}
set BOARDS {
  www.digilentinc.com:pynq-z1:part0:1.0 xc7z020clg400-1
  tul.com.tw:pynq-z2:part0:1.0 xc7z020clg400-1
  avnet.com:ultra96v2:part0:1.2 xczu3eg-sbva484-1-i
  xilinx.com:zcu104:part0:1.1 xczu7ev-ffvc1156-2-e
  xilinx.com:kv260_som:part0:1.4 xck26-sfvc784-2LV-c
}

# Pins and interfaces: kind, and for those of a processing system the property that makes them.
array set CATALOG {
  xilinx.com:ip:proc_sys_reset {slowest_sync_clk sink ext_reset_in sink peripheral_aresetn source}
  xilinx.com:ip:smartconnect {aclk sink aresetn sink S00_AXI interface M00_AXI interface}
  xilinx.com:ip:processing_system7 {
    FCLK_CLK0 {source CONFIG.PCW_EN_CLK0_PORT} FCLK_RESET0_N {source CONFIG.PCW_EN_RST0_PORT}
    M_AXI_GP0 {interface CONFIG.PCW_USE_M_AXI_GP0} M_AXI_GP0_ACLK {sink CONFIG.PCW_USE_M_AXI_GP0}
  }
  xilinx.com:ip:zynq_ultra_ps_e {
    pl_clk0 {source CONFIG.PSU__FPGA_PL0_ENABLE} pl_resetn0 source
    M_AXI_HPM0_FPD {interface CONFIG.PSU__USE__M_AXI_GP0} maxihpm0_fpd_aclk {sink CONFIG.PSU__USE__M_AXI_GP0}
  }
}
foreach port {0 1 2 3} {
  set property CONFIG.PCW_USE_S_AXI_HP$port
  lappend CATALOG(xilinx.com:ip:processing_system7) S_AXI_HP$port "interface $property" \
    S_AXI_HP${port}_ACLK "sink $property"
  set property CONFIG.PSU__USE__S_AXI_GP[expr {$port + 2}]
  lappend CATALOG(xilinx.com:ip:zynq_ultra_ps_e) S_AXI_HP${port}_FPD "interface $property" \
    saxihp${port}_fpd_aclk "sink $property"
}
# The core's version is what the settings say; where there are none, the scripts under test fail.
set IP squeezeedge:hls:squeezeedge_vta:[expr {[catch {source settings.tcl}] ? "" : $version}]
set CATALOG($IP) {ap_clk sink ap_rst_n sink s_axi_control interface}
foreach master $MASTERS {
  lappend CATALOG($IP) m_axi_$master interface
}
# Further properties -> values they may have (a pattern).
array set PROPERTIES {
  CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ [1-9]* CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ [1-9]*
  CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 0 CONFIG.NUM_SI 1 CONFIG.NUM_MI 1
  CONFIG.PCW_S_AXI_HP?_DATA_WIDTH 64 CONFIG.PSU__SAXIGP?__DATA_WIDTH {64 128}
  board_part *:part0:* ip_repo_paths */ip top system_wrapper
}

# Command -> its options that are used and how many values each takes.
set COMMANDS {
  open_project {-reset 0} set_top {} add_files {-cflags 1} open_solution {-reset 0 -flow_target 1} set_part {}
  create_clock {-period 1 -name 1} csynth_design {}
  export_design {-format 1 -rtl 1 -vendor 1 -library 1 -ipname 1 -version 1}
  create_project {-force 0 -part 1} get_board_parts {-quiet 0 -latest_file_version 0} set_property {-dict 1}
  current_project {} update_ip_catalog {} create_bd_design {} create_bd_cell {-type 1 -vlnv 1}
  apply_bd_automation {-rule 1 -config 1} get_bd_cells {} get_bd_pins {} get_bd_intf_pins {} connect_bd_net {}
  connect_bd_intf_net {} assign_bd_address {} validate_bd_design {} save_bd_design {} get_files {}
  make_wrapper {-files 1 -top 0 -import 0} current_fileset {} update_compile_order {-fileset 1}
  launch_runs {-to_step 1 -jobs 1} wait_on_run {} get_runs {} get_property {}
  write_hw_platform {-fixed 0 -include_bit 0 -force 0 -file 1}
}
foreach {name options} $COMMANDS {
  proc $name args "call $name {$options} \$args"
}

proc call {name arities words} {
  set options {}
  set values {}
  while {[llength $words]} {
    set words [lassign $words word]
    if {![string match {-[a-z]*} $word]} {
      lappend values $word
    } elseif {![dict exists $arities $word]} {
      error "$name: unknown option $word"
    } elseif {[dict get $arities $word]} {
      set words [lassign $words value]
      dict set options $word $value
    } else {
      dict set options $word {}
    }
  }
  if {![string match get_* $name] && ![string match current_* $name]} {
    set file [open $::record_file a]
    puts $file [list $name $options $values]
    close $file
  }
  if {[llength [info procs do_$name]]} {
    return [do_$name $options {*}$values]
  }
  return {}
}

proc emulated {path} {
  file mkdir [file dirname $path]
  set file [open $path w]
  puts $file emulated
  close $file
}

proc check {condition message} {
  if {!$condition} {
    error $message
  }
}

# Vitis HLS
proc do_add_files {options path} {
  check [file isfile $path] "add_files: no file $path"
  foreach flag [dict get $options -cflags] {
    if {[string match -I* $flag]} {
      check [file isdirectory [string range $flag 2 end]] "add_files: no folder $flag"
    }
  }
}
proc do_set_part {options part} {check [expr {$part in $::PARTS}] "set_part: unknown part $part"}
proc do_export_design options {emulated hls/solution/impl/ip/component.xml}

# Vivado
proc do_create_project {options name folder} {
  set ::emulated_part [dict get $options -part]
  check [expr {$::emulated_part in $::PARTS}] "create_project: unknown part $::emulated_part"
}
proc do_get_board_parts {options pattern} {
  set found {}
  foreach {board part} $::BOARDS {
    if {[string match $pattern $board]} {
      lappend found $board
    }
  }
  return $found
}
proc do_current_project options {return project}
proc do_current_fileset options {return sources_1}
proc do_set_property {options args} {
  if {[dict exists $options -dict]} {
    set properties [dict get $options -dict]
    lassign $args object
  } else {
    lassign $args name value object
    set properties [list $name $value]
  }
  foreach {name value} $properties {
    set allowed {}
    foreach {pattern values} [array get ::PROPERTIES] {
      if {[string match $pattern $name]} {
        set allowed $values
      }
    }
    if {[info exists ::emulated_cells($object)] && [string match *$name* $::CATALOG($::emulated_cells($object))]} {
      set allowed {1}
    }
    set matches 0
    foreach pattern $allowed {
      set matches [expr {$matches || [string match $pattern $value]}]
    }
    check $matches "set_property: $name = $value on $object"
    set ::emulated_properties($object,$name) $value
  }
  if {[dict exists $properties board_part]} {
    set board [dict get $properties board_part]
    check [expr {[dict get $::BOARDS $board] eq $::emulated_part}] "$board does not have the part $::emulated_part"
  }
  if {[dict exists $properties ip_repo_paths]} {
    check [file isfile [dict get $properties ip_repo_paths]/component.xml] "no IP in the repository"
  }
}
proc do_create_bd_cell {options name} {
  check [info exists ::CATALOG([dict get $options -vlnv])] "create_bd_cell: unknown IP [dict get $options -vlnv]"
  check [expr {![info exists ::emulated_cells($name)]}] "create_bd_cell: $name exists"
  set ::emulated_cells($name) [dict get $options -vlnv]
}
proc do_apply_bd_automation {options cell} {
  set ip [lindex [split $::emulated_cells($cell) :] 2]
  check [expr {[dict get $options -rule] eq "xilinx.com:bd_rule:$ip"}] "apply_bd_automation: $options on $cell"
  check [dict get [dict get $options -config] apply_board_preset] "the board's preset is not applied"
}
proc do_get_bd_cells {options name} {
  check [info exists ::emulated_cells($name)] "get_bd_cells: no cell $name"
  return $name
}
proc kind {path} {
  lassign [split $path /] cell pin
  do_get_bd_cells {} $cell
  set pins $::CATALOG($::emulated_cells($cell))
  check [dict exists $pins $pin] "no pin $path"
  lassign [dict get $pins $pin] kind property
  check [expr {$property eq "" || [info exists ::emulated_properties($cell,$property)]}] "pin $path needs $property"
  return $kind
}
proc do_get_bd_pins {options path} {
  check [expr {[kind $path] ne "interface"}] "get_bd_pins: $path is an interface"
  return $path
}
proc do_get_bd_intf_pins {options path} {
  check [expr {[kind $path] eq "interface"}] "get_bd_intf_pins: $path is a pin"
  return $path
}
proc do_connect_bd_net {options source sink} {
  check [expr {[kind $source] eq "source" && [kind $sink] eq "sink"}] "connect_bd_net: $source $sink"
  check [expr {![info exists ::emulated_connected($sink)]}] "connect_bd_net: $sink is connected twice"
  set ::emulated_connected($sink) $source
  set ::emulated_connected($source) {}
}
proc do_connect_bd_intf_net {options master slave} {
  foreach interface [list $master $slave] {
    check [expr {![info exists ::emulated_connected($interface)]}] "connect_bd_intf_net: $interface is connected twice"
    set ::emulated_connected($interface) {}
  }
}
proc do_validate_bd_design options {
  foreach {cell ip} [array get ::emulated_cells] {
    foreach pin [dict keys $::CATALOG($ip)] {
      check [info exists ::emulated_connected($cell/$pin)] "validate_bd_design: $cell/$pin is not connected"
    }
  }
}
proc do_get_files {options name} {return $name}
proc do_get_runs {options name} {return $name}
proc do_launch_runs {options run} {
  emulated vivado/vta.runs/impl_1/system_wrapper.bit
  emulated vivado/vta.gen/sources_1/bd/system/hw_handoff/system.hwh
}
proc do_get_property {options name object} {
  set slack [expr {[info exists ::env(EMULATED_SLACK)] ? $::env(EMULATED_SLACK) : 0.125}]
  set hold [expr {[info exists ::env(EMULATED_HOLD)] ? $::env(EMULATED_HOLD) : 0.02}]
  set progress [expr {[info exists ::env(EMULATED_PROGRESS)] ? $::env(EMULATED_PROGRESS) : "100%"}]
  return [dict get [list PROGRESS $progress STATUS "place_design ERROR" STATS.WNS $slack STATS.WHS $hold \
    DIRECTORY vivado/vta.runs/impl_1] $name]
}
proc do_write_hw_platform options {emulated [dict get $options -file]}

if {[catch {source $script} message]} {
  puts "ERROR: \[Common 17-39\] $message"
  exit 1
}
