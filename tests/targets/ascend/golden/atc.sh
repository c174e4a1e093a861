#!/bin/sh
# Makes model.om of the artifact; needs CANN's toolkit (source its set_env.sh first).
cd "$(dirname "$0")" || exit 1
exec atc --framework=5 --model=model_deploy_model.onnx --output=model --input_format=NCHW --input_shape=image:1,3,9,11 --soc_version=Ascend310P3 --insert_op_conf=aipp.cfg --output_type=FP32 --log=error
