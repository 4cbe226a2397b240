"""Runs Meta's `sam3` on random weights, in the environment of its own that `test_official.py` makes.

    python official_run.py FOLDER

Reads `model.safetensors` (in the layout of `transformers`), `vocabulary.txt.gz`, `pictures.npz`, `names.json`
and `examples.json`; writes `answers.pt`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from sam3.model.decoder import TransformerDecoder, TransformerDecoderLayer
from sam3.model.encoder import TransformerEncoderFusion, TransformerEncoderLayer
from sam3.model.geometry_encoders import SequenceGeometryEncoder
from sam3.model.maskformer_segmentation import PixelDecoder, UniversalSegmentationHead
from sam3.model.model_misc import MLP, DotProductScoring, MultiheadAttentionWrapper, TransformerWrapper
from sam3.model.necks import Sam3DualViTDetNeck
from sam3.model.position_encoding import PositionEmbeddingSine
from sam3.model.sam3_image import Sam3Image
from sam3.model.sam3_image_processor import Sam3Processor
from sam3.model.text_encoder_ve import VETextEncoder
from sam3.model.tokenizer_ve import SimpleTokenizer
from sam3.model.vitdet import ViT
from sam3.model.vl_combiner import SAM3VLBackbone

SIDE, WIDTH, HIDDEN, LAYERS, QUERIES = 112, 32, 64, 2, 20

_RENAMED = (
    (r"^detector_model\.", ""),
    (r"^vision_encoder\.backbone\.embeddings\.patch_embeddings\.projection\.", "TRUNK.patch_embed.proj."),
    (r"^vision_encoder\.backbone\.embeddings\.position_embeddings$", "TRUNK.pos_embed"),
    (r"^vision_encoder\.backbone\.layer_norm\.", "TRUNK.ln_pre."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.attention\.", r"TRUNK.blocks.\1.attn."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.layer_norm", r"TRUNK.blocks.\1.norm"),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.mlp\.", r"TRUNK.blocks.\1.mlp."),
    (r"^(TRUNK\.blocks\.\d+\.attn)\.o_proj\.", r"\1.proj."),
    (r"^TRUNK\.", "backbone.vision_backbone.trunk."),
    (r"^vision_encoder\.neck\.fpn_layers\.(\d)\.", r"backbone.vision_backbone.convs.\1."),
    (r"(convs\.\d)\.proj1\.", r"\1.conv_1x1."),
    (r"(convs\.\d)\.proj2\.", r"\1.conv_3x3."),
    (r"(convs\.0)\.scale_layers\.0\.", r"\1.dconv_2x2_0."),
    (r"(convs\.0)\.scale_layers\.2\.", r"\1.dconv_2x2_1."),
    (r"(convs\.1)\.scale_layers\.0\.", r"\1.dconv_2x2."),
    (r"^text_encoder\.text_model\.embeddings\.position_embedding\.weight", "TEXT.positional_embedding"),
    (r"^text_encoder\.text_model\.embeddings\.token_embedding\.", "TEXT.token_embedding."),
    (r"^text_encoder\.text_model\.encoder\.layers\.", "TEXT.transformer.resblocks."),
    (r"^text_encoder\.text_model\.final_layer_norm\.", "TEXT.ln_final."),
    (r"^(TEXT\.transformer\.resblocks\.\d+)\.layer_norm", r"\1.ln_"),
    (r"^(TEXT\.transformer\.resblocks\.\d+)\.self_attn\.", r"\1.attn."),
    (r"^(TEXT\.transformer\.resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"^(TEXT\.transformer\.resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
    (r"^TEXT\.", "backbone.language_backbone.encoder."),
    (r"^text_projection\.", "backbone.language_backbone.resizer."),
    (r"^geometry_encoder\.layers\.", "geometry_encoder.encode."),
    (r"^geometry_encoder\.output_layer_norm\.", "geometry_encoder.encode_norm."),
    (r"^geometry_encoder\.prompt_layer_norm\.", "geometry_encoder.norm."),
    (r"^geometry_encoder\.vision_layer_norm\.", "geometry_encoder.img_pre_norm."),
    (r"^detr_encoder\.", "transformer.encoder."),
    (r"^((?:transformer\.encoder\.layers|geometry_encoder\.encode)\.\d+)\.cross_attn\.", r"\1.cross_attn_image."),
    (r"^((?:transformer\.encoder\.layers|geometry_encoder\.encode)\.\d+)\.layer_norm", r"\1.norm"),
    (r"^detr_decoder\.", "transformer.decoder."),
    (r"(decoder\.layers\.\d+)\.vision_cross_attn_layer_norm\.", r"\1.norm1."),
    (r"(decoder\.layers\.\d+)\.text_cross_attn_layer_norm\.", r"\1.catext_norm."),
    (r"(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm2."),
    (r"(decoder\.layers\.\d+)\.mlp_layer_norm\.", r"\1.norm3."),
    (r"(decoder\.layers\.\d+)\.vision_cross_attn\.", r"\1.cross_attn."),
    (r"(decoder\.layers\.\d+)\.text_cross_attn\.", r"\1.ca_text."),
    (r"^((?:transformer|geometry_encoder)\..*)\.mlp\.fc(\d)\.", r"\1.linear\2."),
    (r"^transformer\.decoder\.output_layer_norm\.", "transformer.decoder.norm."),
    (r"^transformer\.decoder\.presence_layer_norm\.", "transformer.decoder.presence_token_out_norm."),
    (r"^transformer\.decoder\.presence_head\.", "transformer.decoder.presence_token_head."),
    (r"^transformer\.decoder\.box_head\.", "transformer.decoder.bbox_embed."),
    (r"^transformer\.decoder\.box_rpb_embed_", "transformer.decoder.boxRPB_embed_"),
    (r"^dot_product_scoring\.text_mlp_out_norm\.", "dot_prod_scoring.prompt_mlp.out_norm."),
    (r"^dot_product_scoring\.text_mlp\.", "dot_prod_scoring.prompt_mlp."),
    (r"^dot_product_scoring\.text_proj\.", "dot_prod_scoring.prompt_proj."),
    (r"^dot_product_scoring\.query_proj\.", "dot_prod_scoring.hs_proj."),
    (r"^mask_decoder\.instance_projection\.", "segmentation_head.instance_seg_head."),
    (r"^mask_decoder\.semantic_projection\.", "segmentation_head.semantic_seg_head."),
    (r"^mask_decoder\.mask_embedder\.", "segmentation_head.mask_predictor.mask_embed."),
    (r"^mask_decoder\.pixel_decoder\.", "segmentation_head.pixel_decoder."),
    (r"^mask_decoder\.prompt_cross_attn_norm\.", "segmentation_head.cross_attn_norm."),
    (r"^mask_decoder\.prompt_cross_attn\.", "segmentation_head.cross_attend_prompt."),
    (r"\.o_proj\.", ".out_proj."),
)


def official_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the detector in the layout of `transformers`, under the names of `sam3`."""
    renamed: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith("detector_model.") or ".text_encoder.text_projection" in name:
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\.layer(\d)\.", lambda match: f".layers.{int(match[1]) - 1}.", name)
        if attention := re.match(r"^(.*)\.([qkv])_proj\.(weight|bias)$", name):
            trunk = ".trunk." in name
            whole = f"{attention[1]}.qkv.{attention[3]}" if trunk else f"{attention[1]}.in_proj_{attention[3]}"
            parts.setdefault(whole, {})[attention[2]] = tensor
        elif name.endswith("trunk.pos_embed"):
            renamed[name] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        else:
            renamed[name] = tensor
    return renamed | {name: torch.cat([three[kind] for kind in "qkv"]) for name, three in parts.items()}


def build(tokenizer: SimpleTokenizer) -> Any:
    """`sam3.model_builder.build_sam3_image_model`, in the small size of the test."""

    def attention(**options: Any) -> Any:
        return MultiheadAttentionWrapper(num_heads=8, dropout=0.1, embed_dim=WIDTH, **options)

    def positions() -> Any:
        return PositionEmbeddingSine(num_pos_feats=WIDTH, normalize=True, scale=None, temperature=10000)

    def layer(batch_first: bool, at_attention: bool) -> Any:
        return TransformerEncoderLayer(
            activation="relu",
            d_model=WIDTH,
            dim_feedforward=HIDDEN,
            dropout=0.1,
            pos_enc_at_attn=at_attention,
            pos_enc_at_cross_attn_keys=not at_attention,
            pos_enc_at_cross_attn_queries=False,
            pre_norm=True,
            self_attention=attention(batch_first=batch_first),
            cross_attention=attention(batch_first=batch_first),
        )

    trunk = ViT(
        img_size=SIDE,
        pretrain_img_size=56,
        patch_size=14,
        embed_dim=WIDTH,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        norm_layer="LayerNorm",
        qkv_bias=True,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=(1,),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=4,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        return_interm_layers=False,
        bias_patch_embed=False,
    )
    neck = Sam3DualViTDetNeck(
        position_encoding=positions(), d_model=WIDTH, scale_factors=[4.0, 2.0, 1.0, 0.5], trunk=trunk
    )
    text = VETextEncoder(
        d_model=WIDTH, tokenizer=tokenizer, width=48, heads=4, layers=2, vocab_size=tokenizer.vocab_size
    )
    encoder = TransformerEncoderFusion(
        layer=layer(batch_first=True, at_attention=True),
        num_layers=LAYERS,
        d_model=WIDTH,
        num_feature_levels=1,
        frozen=False,
        use_act_checkpoint=True,
        add_pooled_text_to_img_feat=False,
        pool_text_with_mask=True,
    )
    decoder = TransformerDecoder(
        layer=TransformerDecoderLayer(
            activation="relu",
            d_model=WIDTH,
            dim_feedforward=HIDDEN,
            dropout=0.1,
            cross_attention=attention(),
            n_heads=8,
            use_text_cross_attention=True,
        ),
        num_layers=LAYERS,
        num_queries=QUERIES,
        return_intermediate=True,
        box_refine=True,
        num_o2m_queries=0,
        dac=True,
        boxRPB="log",
        d_model=WIDTH,
        frozen=False,
        interaction_layer=None,
        dac_use_selfatt_ln=True,
        use_act_checkpoint=True,
        presence_token=True,
    )
    scoring = MLP(WIDTH, HIDDEN, WIDTH, 2, dropout=0.1, residual=True, out_norm=torch.nn.LayerNorm(WIDTH))
    segmentation = UniversalSegmentationHead(
        hidden_dim=WIDTH,
        upsampling_stages=3,
        aux_masks=False,
        presence_head=False,
        dot_product_scorer=None,
        act_ckpt=True,
        cross_attend_prompt=MultiheadAttentionWrapper(num_heads=8, dropout=0, embed_dim=WIDTH),
        pixel_decoder=PixelDecoder(num_upsampling_stages=3, interpolation_mode="nearest", hidden_dim=WIDTH),
    )
    geometry = SequenceGeometryEncoder(
        pos_enc=positions(),
        encode_boxes_as_points=False,
        points_direct_project=True,
        points_pool=True,
        points_pos_enc=True,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=WIDTH,
        num_layers=LAYERS,
        layer=layer(batch_first=False, at_attention=False),
        use_act_ckpt=True,
        add_cls=True,
        add_post_encode_proj=True,
    )
    model = Sam3Image(
        backbone=SAM3VLBackbone(visual=neck, text=text, scalp=1),
        transformer=TransformerWrapper(encoder=encoder, decoder=decoder, d_model=WIDTH),
        input_geometry_encoder=geometry,
        segmentation_head=segmentation,
        num_feature_levels=1,
        o2m_mask_predict=True,
        dot_prod_scoring=DotProductScoring(d_model=WIDTH, d_proj=WIDTH, prompt_mlp=scoring),
        use_instance_query=False,
        multimask_output=True,
        inst_interactive_predictor=None,
        matcher=None,
    )
    return model.eval()


def load(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Fill the model; what `transformers` has no place for answers points, or is not learned."""
    missing, unexpected = model.load_state_dict(official_names(tensors), strict=False)
    left = [name for name in missing if not re.search(r"freqs_cis|\.points_|encoder\.text_projection$", name)]
    if left or unexpected:
        raise RuntimeError(f"missing {left}, unexpected {unexpected}")


@torch.no_grad()
def main(folder: Path) -> None:
    # The one call of `sam3` that needs a GPU's driver; without one there is nothing to pin for.
    torch.Tensor.pin_memory = lambda tensor, *_: tensor  # type: ignore[assignment,method-assign]
    model = build(SimpleTokenizer(str(folder / "vocabulary.txt.gz")))
    load(model, load_file(folder / "model.safetensors"))
    names, examples = (json.loads((folder / f"{what}.json").read_text()) for what in ("names", "examples"))
    answers = {}
    for picture, image in np.load(folder / "pictures.npz").items():
        for name in names:
            raw: list[dict[str, torch.Tensor]] = []
            processor = Sam3Processor(model, resolution=SIDE, device="cpu", confidence_threshold=0.0)
            kept = model.forward_grounding
            model.forward_grounding = lambda raw=raw, kept=kept, **inputs: raw.append(kept(**inputs)) or raw[-1]
            state = processor.set_text_prompt(name, processor.set_image(Image.fromarray(image)))
            model.forward_grounding = kept
            answers[f"{picture}: {name}"] = {
                "tokens": model.backbone.language_backbone.tokenizer([name], context_length=32)[0],
                "logits": raw[0]["pred_masks"][0].clone(),
                "presence": raw[0]["presence_logit_dec"].sigmoid().flatten()[0].clone(),
                "scores": state["scores"].clone(),
                "masks": state["masks"][:, 0].clone(),
            }
        for name, asked in examples.items():
            raw = []
            processor = Sam3Processor(model, resolution=SIDE, device="cpu", confidence_threshold=0.0)
            kept = model.forward_grounding
            model.forward_grounding = lambda raw=raw, kept=kept, **inputs: raw.append(kept(**inputs)) or raw[-1]
            state = processor.set_image(Image.fromarray(image))
            if name != "boxes alone":
                state = processor.set_text_prompt(name, state)
            for box, meant in asked:
                state = processor.add_geometric_prompt(box, meant, state)
            model.forward_grounding = kept
            answers[f"{picture}: {name} with boxes"] = {
                "logits": raw[-1]["pred_masks"][0].clone(),
                "presence": raw[-1]["presence_logit_dec"].sigmoid().flatten()[0].clone(),
                "scores": state["scores"].clone(),
            }
    torch.save(answers, folder / "answers.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
