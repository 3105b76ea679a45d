// What the tests of `witan verify` share: small configs, and what is expected of a planted fault.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "configs/schema/run.pb.h"
#include "launch/verify/verify.h"

namespace witan::test {

// One dense and one MoE layer, of everything a bit; `change` is merged over it.
inline configs::RunConfig verify_config(const std::string& change = "") {
  const char* text =
      "name: 'test' model { vocab_size: 31 d_model: 12 layers: 2 tied_head: true"
      "  attention { heads: 2 kv_heads: 1 head_dim: 6 qk_norm: true } ffn { d_ff: 10 }"
      "  moe { experts: 12 d_ff: 6 shared_d_ff: 5 pattern { first: 1 }"
      "    router { top_k { k: 2 } score: SIGMOID bias: true }"
      "    balance { switch_aux { coefficient: 0.1 scope: GLOBAL_BATCH } }"
      "    balance { z_loss { coefficient: 0.01 } } balance { expert_bias { rate: 0.01 } } } }"
      " data { train { name: 'nowhere' path: 'no/such/data' } seq_len: 8 reset_at_document: true"
      "  mask_document_start: true tokenizer: 'none' end_of_document: 0 }"
      " train { global_batch: 24 } runtime { threads: 1 }";
  configs::RunConfig run, changes;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &run)) << text;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(change, &changes)) << change;
  run.MergeFrom(changes);
  return run;
}

// That something failed, in `check` alone, and worst at `tensor`.
inline void expect_found(const VerifyReport& report, const std::string& check,
                         const std::string& tensor) {
  int failed = 0;
  for (const CheckResult& result : report.results) {
    if (result.passed()) continue;
    ++failed;
    EXPECT_EQ(result.check, check) << result_line(result);
    EXPECT_EQ(result.worst, tensor) << result_line(result);
  }
  EXPECT_GT(failed, 0) << "the fault was not found";
  EXPECT_FALSE(all_passed(report.results));
}

}  // namespace witan::test
