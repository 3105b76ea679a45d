// Configs for the tests of launch/plan.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "configs/schema/machine.pb.h"
#include "configs/schema/run.pb.h"

namespace witan::test {

// `more`, then `again` are merged over a run with this model.
inline configs::RunConfig planned_run(const std::string& model, const std::string& more = "",
                                      const std::string& again = "") {
  configs::RunConfig run;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'planned' model { " + model + " }", &run))
      << model;
  for (const std::string& text : {more, again}) {
    google::protobuf::TextFormat::Parser parser;
    EXPECT_TRUE(parser.MergeFromString(text, &run)) << text;
  }
  return run;
}

// `more` is merged over it.
inline configs::MachineConfig machine(const std::string& text, const std::string& more = "") {
  configs::MachineConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  google::protobuf::TextFormat::Parser parser;
  EXPECT_TRUE(parser.MergeFromString(more, &config)) << more;
  return config;
}

// Mistral's published dimensions.
inline const char* kMixtral8x7B =
    "vocab_size: 32000 d_model: 4096 layers: 32 attention { heads: 32 kv_heads: 8 }"
    "moe { experts: 8 d_ff: 14336 router { top_k { k: 2 } } }";
inline const char* kMixtral8x22B =
    "vocab_size: 32000 d_model: 6144 layers: 56 attention { heads: 48 kv_heads: 8 }"
    "moe { experts: 8 d_ff: 16384 router { top_k { k: 2 } } }";
inline const char* kQwenMoe =
    "vocab_size: 151936 d_model: 2048 layers: 24 attention { heads: 16 qkv_bias: true }"
    "moe { experts: 60 d_ff: 1408 shared_d_ff: 5632 shared_gate: true"
    "  router { top_k { k: 4 } weights: AS_IS } }";

}  // namespace witan::test
